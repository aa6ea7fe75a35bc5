//! Every input that fuzzing kept, through the reader that it was found for: no nightly toolchain, no fuzzer.

#[path = "../fuzz/src/lib.rs"]
mod readers;

use std::fs;
use std::path::Path;

#[test]
fn every_kept_input_is_read_as_its_oracle_says() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, read) in readers::READERS {
        let (mut accepted, mut refused) = (0, 0);
        for file in fs::read_dir(corpus.join(name)).unwrap() {
            let path = file.unwrap().path();
            println!("{}", path.display()); // shown where one of them fails
            if read(&fs::read(&path).unwrap()) {
                accepted += 1;
            } else {
                refused += 1;
            }
        }
        assert!(accepted > 1 && refused > 1, "{name}: {accepted}, {refused}");
    }
}
