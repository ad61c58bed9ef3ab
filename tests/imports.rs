//! The imports of `src`: no cycle between files, and none from a layer above (docs/architecture.md).
//!
//! An import counts as one of the file that defines the item: re-exports are followed, and are no imports themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules at the top of `src`, layer by layer, the highest first. Modules on one line do not know each other.
const LAYERS: [&[&str]; 10] = [
    &["commands"],
    &["kinds"],
    &["reproduce"],
    &["run"],
    &["report"],
    &["plan"],
    &["store"],
    &["manifest"],
    &["events", "graph", "key"],
    &["clock", "exit", "parallel", "stage_name", "stderr"],
];

/// A source file, by the path of its module: `store::builds`.
struct File {
    /// The names that it imports or re-exports, each with the path from the root.
    names: BTreeMap<String, String>,
    /// The paths that it uses.
    uses: BTreeSet<String>,
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

/// Reads the code of every file below a directory, without comments and tests, a statement `use` on a line of its own.
fn read(directory: &Path, module: &str, texts: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let below = join(module, path.file_stem().unwrap().to_str().unwrap());
        if path.is_dir() {
            read(&path, &below, texts);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap().split("#[cfg(all(test").next().unwrap();
        let code = code.replace("pub(in crate::", "pub(");
        let lines = code.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let lines = lines.map(|line| match line.split_once("use ") {
            Some(("pub " | "pub(super) " | "pub(crate) ", rest)) => format!("\nuse {rest}"),
            _ => format!("\n{line}"),
        });
        texts.insert(if path.ends_with("mod.rs") { module.to_owned() } else { below }, lines.collect());
    }
}

/// Expands a tree of imports: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(tree: &str, before: &str, paths: &mut Vec<String>) {
    let Some((start, rest)) = tree.split_once('{') else { return paths.push(format!("{before}{}", tree.trim())) };
    let (mut depth, before) = (0, format!("{before}{}", start.trim()));
    let is_separator = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    };
    let items = rest.rsplit_once('}').unwrap().0.split(is_separator);
    items.filter(|item| !item.trim().is_empty()).for_each(|item| expand(item, &before, paths));
}

/// Returns a path of a file from the root; `None` if it leads out of the crate.
fn absolute(path: &str, mut module: &str, texts: &BTreeMap<String, String>) -> Option<String> {
    if let Some(path) = path.strip_prefix("crate::") {
        return Some(path.to_owned());
    }
    let rest = path.trim_start_matches("super::");
    for _ in 0..(path.len() - rest.len()) / "super::".len() {
        module = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    }
    let is_ours = rest.len() < path.len() || texts.contains_key(&join(module, path.split("::").next()?));
    is_ours.then(|| join(module, rest))
}

fn parse(module: &str, text: &str, texts: &BTreeMap<String, String>) -> File {
    let mut pieces = text.split("\nuse ");
    let (mut names, mut rest, mut paths) = (BTreeMap::new(), pieces.next().unwrap().to_owned(), Vec::new());
    for (tree, after) in pieces.map(|piece| piece.split_once(';').unwrap()) {
        rest += after;
        expand(tree, "", &mut paths);
    }
    for path in paths {
        let path = path.trim_start_matches("self::").split(" as ").next().unwrap().trim_end_matches("::self");
        let name = path.rsplit("::").next().unwrap().to_owned();
        names.extend(absolute(path, module, texts).map(|path| (name, path)));
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = rest.split(|c| !is_word(c)).collect();
    let used = names.iter().filter(|(name, _)| words.contains(name.as_str())).map(|(_, path)| path.clone());
    let inline = rest.split(|c| !is_word(c) && c != ':').filter(|path| path.contains("::"));
    let uses = used.chain(inline.filter_map(|path| absolute(path.trim_matches(':'), module, texts))).collect();
    File { names, uses }
}

/// Returns the file that defines what a path names.
fn defined_in(path: &str, files: &BTreeMap<String, File>) -> Option<String> {
    let mut module = path;
    while !files.contains_key(module) {
        module = module.rsplit_once("::")?.0;
    }
    let rest = path[module.len()..].trim_start_matches("::");
    let name = rest.split("::").next().unwrap_or_default();
    match files[module].names.get(name) {
        Some(target) => defined_in(&format!("{target}{}", &rest[name.len()..]), files),
        None => Some(module.to_owned()),
    }
}

#[test]
fn no_file_imports_in_a_cycle_or_from_a_floor_above() {
    let mut texts = BTreeMap::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut texts);
    texts.retain(|module, _| !["lib", "main"].contains(&module.as_str()));
    let files: BTreeMap<_, _> =
        texts.iter().map(|(module, text)| (module.clone(), parse(module, text, &texts))).collect();
    let imports = |(module, file): (&String, &File)| {
        let defined = file.uses.iter().filter_map(|path| defined_in(path, &files));
        (module.clone(), defined.filter(|other| other != module).collect::<BTreeSet<_>>())
    };
    let mut imports: BTreeMap<_, _> = files.iter().map(imports).collect();
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 500, "imports are not recognised");
    let top = |module: &str| module.split("::").next().unwrap().to_owned();
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&top(module).as_str())).unwrap();
    for (module, others) in &imports {
        for other in others.iter().filter(|other| top(other) != top(module)) {
            assert!(layer(other) > layer(module), "{module} imports {other}");
        }
    }
    // A file that imports none of the rest is in no cycle.
    while let Some(done) = imports.keys().find(|module| imports[*module].is_empty()).cloned() {
        imports.remove(&done);
        imports.values_mut().for_each(|others| others.retain(|other| *other != done));
    }
    assert!(imports.is_empty(), "imports in a cycle, or of a file in one: {imports:#?}");
}
