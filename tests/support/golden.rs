//! Answers as they were reviewed: texts against files in a folder, and the folder against the texts.

use std::collections::BTreeSet;
use std::path::Path;

/// Compares each text with its file in a folder of `tests`, and the folder's files with the names.
pub fn compare(folder: &str, texts: Vec<(String, String)>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_path(&path);
    let names: BTreeSet<String> = texts.iter().map(|(name, _)| format!("{name}.snap")).collect();
    assert_eq!(names.len(), texts.len(), "each has a name of its own");
    settings.bind(|| {
        for (name, text) in texts {
            insta::assert_snapshot!(name, text);
        }
    });
    let files =
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), names, "a file of a verb that is gone is deleted");
}
