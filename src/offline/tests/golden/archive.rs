//! A small directory in one file: zstd over each file's name (u16 length, bytes), size (u64) and
//! bytes, in the order of the names. Segments are mostly zeros, so little is left of them.

use std::fs;
use std::path::{Path, PathBuf};

/// Writes the files of an archive below `to`.
pub fn unpack(archive: &Path, to: &Path) {
    let packed = fs::read(archive).unwrap();
    let bytes = zstd::stream::decode_all(packed.as_slice()).unwrap();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let name_bytes = usize::from(u16::from_le_bytes(*rest.first_chunk().unwrap()));
        let (name, after) = rest[2..].split_at(name_bytes);
        let size = u64::from_le_bytes(*after.first_chunk().unwrap()) as usize;
        let (content, after) = after[8..].split_at(size);
        let path = to.join(std::str::from_utf8(name).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        rest = after;
    }
}

/// The archive of a directory.
#[allow(dead_code, reason = "only one of the tests that share this file writes")]
pub fn pack(directory: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in names(directory, directory) {
        let content = fs::read(directory.join(&name)).unwrap();
        let name = name.to_str().unwrap();
        bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&content);
    }
    zstd::stream::encode_all(bytes.as_slice(), 19).unwrap()
}

fn names(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(names(root, &path)),
            false => found.push(path.strip_prefix(root).unwrap().to_owned()),
        }
    }
    // Whose number stands in it is nobody's business.
    found.retain(|name| name != Path::new("LOCK"));
    found.sort();
    found
}
