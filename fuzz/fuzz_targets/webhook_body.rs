#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clipstream_fuzz::webhook_body::webhook_body(data));
