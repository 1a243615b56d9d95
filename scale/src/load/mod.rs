//! Sends requests and records the answers: paces, connections, histograms. Knows nothing of containers.
