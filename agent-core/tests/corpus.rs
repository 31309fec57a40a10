//! What fuzzing has found before, and a bit of everything else, given to the fuzz targets once more.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_input_of_the_corpus_is_survived() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let mut files: Vec<_> =
            std::fs::read_dir(folder.join(name)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 10, "the corpus of {name} is missing");
        for file in files {
            let input = std::fs::read(&file).unwrap();
            if std::panic::catch_unwind(|| target(&input)).is_err() {
                panic!("{name} does not survive {}", file.display());
            }
        }
    }
}
