//! Temporary folders of runs, which go with their handle or with the next run.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// What the names of the runs' folders begin with; a word, the id of the process and a random number follow.
const PREFIX: &str = "rookery-";

/// A temporary folder that goes with its handle. Where its process was killed, the next run removes it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one, named after this kind of run. Those of its kind whose process is no more are removed.
    pub fn new(kind: &str) -> anyhow::Result<Self> {
        remove_leftovers(kind);
        let name = format!("{PREFIX}{kind}-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("{} can't be made", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed is left to the next run.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The process that made a folder of this name; `None`: it is none of this kind.
fn owner_of(name: &str, kind: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?.strip_prefix(kind)?.strip_prefix('-')?;
    rest.split_once('-')?.0.parse().ok()
}

fn remove_leftovers(kind: &str) {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let owner = entry.file_name().to_str().and_then(|name| owner_of(name, kind));
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_handle_and_names_its_process() {
        let folder = Folder::new("test").expect("there is a temporary folder");
        let path = folder.path().to_owned();
        assert!(path.is_dir());
        let name = path.file_name().and_then(|name| name.to_str()).expect("the name is ours");
        assert_eq!(owner_of(name, "test"), Some(std::process::id()));
        assert_eq!(owner_of(name, "chaos"), None);
        assert_eq!(owner_of("rookery-test-x-1", "test"), None);
        let another = Folder::new("test").expect("there is a temporary folder");
        assert!(path.is_dir(), "its process lives");
        drop((folder, another));
        assert!(!path.exists());
    }
}
