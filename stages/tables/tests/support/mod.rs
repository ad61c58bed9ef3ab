//! Tables written and read back without a stage.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use contract::{Context, Device, Digest, InputFile, InputTree, Inputs, Outputs, PortType, Progress, Resources};
use tables::{Document, DocumentBatch, ShardWriter, Table, document_id, rows_schema};

/// A context in a fresh folder with these ports.
pub fn context(folder: &Path, name: &str, threads: usize) -> Context {
    let folder = folder.join(name);
    let ports = ["documents", "dropped"].map(str::to_owned);
    fs::create_dir_all(folder.join("scratch")).unwrap();
    Context {
        inputs: Inputs::default(),
        sources: Vec::new(),
        outputs: Outputs::stage(&folder.join("staging"), ports).unwrap(),
        scratch: folder.join("scratch"),
        derived: contract::Derived::default(),
        resources: Resources { threads, memory: 256 << 20, device: Device::Cpu },
        seed: 1,
        machine_facts: BTreeMap::new(),
        progress: Progress::default(),
        cancel: contract::Cancel::default(),
    }
}

pub fn finish(context: Context) -> BTreeMap<String, InputTree> {
    let tree = |(port, (tree, files)): (String, (contract::Tree, Vec<(contract::TreeEntry, PathBuf)>))| {
        let mut files: Vec<InputFile> = files
            .into_iter()
            .map(|(entry, location)| InputFile { path: entry.path, location, digest: entry.digest, size: entry.size })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        (port, InputTree { digest: tree.digest(), files })
    };
    context.outputs.finish().unwrap().into_iter().map(tree).collect()
}

pub fn shard(number: u8) -> Digest {
    Digest::of(&[number])
}

/// A table of these contents, a shard each list.
pub fn write(folder: &Path, name: &str, shards: &[Vec<String>]) -> InputTree {
    let context = context(folder, name, 1);
    for (number, contents) in shards.iter().enumerate() {
        let mut writer = ShardWriter::new(context.outputs.tree("documents").unwrap(), shard(number as u8));
        for (index, content) in contents.iter().enumerate() {
            let path = format!("{index}.py");
            let size = content.len() as i64;
            let license = (index % 3 > 0).then_some("mit");
            let document = Document { repo_name: "a/b", path: &path, copies: 1, size, license, content };
            writer.push(&document).unwrap();
        }
        writer.finish().unwrap();
    }
    tables::close(context.outputs.tree("documents").unwrap(), &rows_schema(), PortType::Documents).unwrap();
    finish(context).remove("documents").unwrap()
}

pub fn contents(tree: &InputTree) -> Vec<String> {
    let mut contents = Vec::new();
    for part in Table::open(tree).unwrap().parts() {
        for batch in part.documents().unwrap() {
            let batch = DocumentBatch::try_from(batch.unwrap()).unwrap();
            for index in 0..batch.len() {
                let (repository, path) = (batch.repo_name(index), batch.path(index));
                assert_eq!(batch.id(index), document_id(repository, path, batch.content(index)).to_string());
                contents.push(batch.content(index).to_owned());
            }
        }
    }
    contents
}

/// The contents in the table's order: shards by digest.
pub fn in_order(shards: &[Vec<String>]) -> Vec<String> {
    let mut numbered: Vec<_> = shards.iter().enumerate().map(|(number, list)| (shard(number as u8), list)).collect();
    numbered.sort_by_key(|(digest, _)| *digest);
    numbered.into_iter().flat_map(|(_, list)| list.clone()).collect()
}
