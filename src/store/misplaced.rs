//! What lies where something of another sort belongs: a file in a folder's place, a folder in a file's. It is nobody's,
//! whatever it holds, and may keep a run from going on.

use std::path::PathBuf;

use contract::Digest;

use super::Store;
use super::error::{Damage, Fault, Object, Result};
use super::last_builds::STAGES;
use super::layout::{FOLDERS, file_name};
use super::names::names_if_folder;
use super::runs::number;

impl Store {
    /// Files (and links that lead nowhere) in the place of folders, and what is no file in the place of locks and indexes; they are moved
    /// aside where the store may be written. A link that leads to a folder is one.
    ///
    /// # Errors
    /// When a folder cannot be read, or something not moved.
    pub fn misplaced(&self) -> Result<Vec<Damage>> {
        let mut folders: Vec<_> = FOLDERS.iter().map(|name| self.layout().folder(name)).collect();
        let shelf = |name: &str| name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let key = |name: &str| name.parse::<Digest>().is_ok();
        let run = |name: &str| file_name(name).is_ok();
        // What has a name that is none of the store's is nobody's business.
        let named: [(&str, &dyn Fn(&str) -> bool); 7] = [
            ("blobs", &shelf),
            ("trees", &shelf),
            ("published", &shelf),
            ("records", &key),
            ("ledger", &key),
            ("work", &key),
            ("runs", &run),
        ];
        for (name, is_ours) in named {
            let folder = self.layout().folder(name);
            folders.extend(names_if_folder(&folder)?.iter().filter(|name| is_ours(name)).map(|name| folder.join(name)));
        }
        for run in self.run_names()? {
            let run = self.layout().run(&run)?;
            let runs = names_if_folder(&run)?.into_iter().filter(|name| number(name).is_some());
            folders.extend(runs.map(|name| run.join(name)));
            folders.push(run.join(STAGES));
        }
        let locks = self.layout().folder("locks");
        let locks = names_if_folder(&locks)?.into_iter().filter(|name| name.parse::<Digest>().is_ok());
        let mut files: Vec<_> = locks.map(|name| self.layout().folder("locks").join(name)).collect();
        files.push(self.layout().gate());
        files.extend(["blobs", "sources"].map(|name| self.layout().folder("stat").join(name)));
        let is_wrong = |path: &&PathBuf| match path.symlink_metadata() {
            Ok(found) if found.is_symlink() => !path.is_dir(),
            Ok(found) => !found.is_dir(),
            Err(_) => false,
        };
        let wrong_folders = folders.iter().filter(is_wrong);
        let wrong_files = files.iter().filter(|path| path.symlink_metadata().is_ok_and(|found| !found.is_file()));
        let damage = |what: &'static str| {
            move |path: &PathBuf| self.damaged(Object::File(path.clone()), Fault::Format(what.to_owned()), path)
        };
        wrong_folders.map(damage("it is not a folder")).chain(wrong_files.map(damage("it is not a file"))).collect()
    }
}
