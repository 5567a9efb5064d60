//! The configuration: a file, and variables over it.

use std::ffi::OsString;

use crate::config;

/// A TOML text, then after a zero byte lines `NAME=value` of the environment.
pub fn settings(bytes: &[u8]) {
    let (file, environment) = match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    let variables: Vec<(OsString, OsString)> = String::from_utf8_lossy(environment)
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (format!("CORELANE_{name}").into(), value.into()))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corelane.toml");
    std::fs::write(&path, file).unwrap();
    match config::load(Some(&path), variables, &[]) {
        Ok(loaded) => {
            // What is shown loads as the same.
            std::fs::write(&path, loaded.show()).unwrap();
            let again = config::load(Some(&path), [], &[]);
            assert_eq!(again.map(|again| again.config).ok(), Some(loaded.config));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
