//! A definition of any text.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use xtask_tare::image::definition::parse;

fuzz_target!(|text: &str| {
    match parse("app", Path::new("images/app/image.toml"), text) {
        Ok(definition) => assert!(!definition.platforms.is_empty() && !definition.layers.is_empty()),
        Err(error) => {
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&error.line) && error.column >= 1, "{error}");
            assert!(!error.message.is_empty(), "{error}");
        }
    }
});
