use super::support::{baton, stderr, stdout};

#[test]
fn a_wrong_command_line_is_exit_code_2_and_names_what_was_meant() {
    let output = baton(&["statsu"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("status"), "{}", stderr(&output));
    assert_eq!(baton(&[], &[]).status.code(), Some(2));
    assert_eq!(baton(&["config", "check", "-o", "yaml"], &[]).status.code(), Some(2));
}

#[test]
fn help_lists_the_verbs_and_shows_examples() {
    let help = baton(&["--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    for verb in ["config", "paper", "status"] {
        assert!(stdout(&help).contains(&format!("\n  {verb} ")), "{}", stdout(&help));
    }
    for verb in [&["config", "check"][..], &["config", "show"], &["paper"], &["status"]] {
        let help = stdout(&baton(&[verb, &["--help"]].concat(), &[]));
        assert!(help.contains("Examples:\n  baton "), "{help}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let output = baton(&["--version"], &[]);
    assert_eq!(stdout(&output), format!("baton {}\n", env!("CARGO_PKG_VERSION")));
}
