#![no_main]
libfuzzer_sys::fuzz_target!(init: lorascope_hostile::quiet_panics(), |data: &[u8]| lorascope_hostile::study(data));
