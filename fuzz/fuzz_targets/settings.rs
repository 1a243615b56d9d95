//! The sample server's configuration file of any text.

#![no_main]

use app::config::Layers;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut layers = Layers::new();
    match layers.file("config.toml".as_ref(), text) {
        // What is shown can be read, and says the same.
        Ok(()) => {
            let mut again = Layers::new();
            again.file("shown.toml".as_ref(), &layers.show()).expect("what was shown can be read");
            assert_eq!(again.config, layers.config);
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
});
