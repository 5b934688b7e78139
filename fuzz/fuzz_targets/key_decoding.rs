#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clipstream_fuzz::key_decoding::key_decoding(data));
