//! Runs any OCI image under limits, and reads what the kernel counted of it.
