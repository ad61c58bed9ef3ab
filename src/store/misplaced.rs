//! What lies where something of another sort belongs: a file in a folder's place, a folder in a file's. It is nobody's,
//! whatever it holds, and keeps a run from going on.

use contract::Digest;

use super::Store;
use super::error::{Damage, Fault, Object, Result};
use super::layout::FOLDERS;
use super::names::names_if_folder;

impl Store {
    /// Files (and links that lead nowhere) in the place of folders, and what is no file in the place of locks; they are moved
    /// aside where the store may be written. A link that leads to a folder is one.
    ///
    /// # Errors
    /// When a folder cannot be read, or something not moved.
    pub fn misplaced(&self) -> Result<Vec<Damage>> {
        let mut folders: Vec<_> = FOLDERS.iter().map(|name| self.layout().folder(name)).collect();
        for name in ["blobs", "trees", "records", "ledger", "work", "runs"] {
            let folder = self.layout().folder(name);
            folders.extend(names_if_folder(&folder)?.iter().map(|name| folder.join(name)));
        }
        let locks = self.layout().folder("locks");
        let locks = names_if_folder(&locks)?.into_iter().filter(|name| name.parse::<Digest>().is_ok());
        let locks: Vec<_> = locks.map(|name| self.layout().folder("locks").join(name)).collect();
        let wrong_folders = folders.iter().filter(|path| path.symlink_metadata().is_ok() && !path.is_dir());
        let wrong_locks = locks.iter().filter(|path| path.symlink_metadata().is_ok_and(|found| !found.is_file()));
        let damage = |what: &'static str| {
            move |path: &std::path::PathBuf| {
                self.damaged(Object::File(path.clone()), Fault::Format(what.to_owned()), path)
            }
        };
        wrong_folders.map(damage("it is not a folder")).chain(wrong_locks.map(damage("it is not a file"))).collect()
    }
}
