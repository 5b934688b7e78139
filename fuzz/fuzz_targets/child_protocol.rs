#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clipstream_fuzz::media::child_protocol(data));
