//! The imports of `src`: no cycle between files, and none from a floor above (docs/architecture.md).
//!
//! An import counts as one of the file that defines the item: re-exports are followed. A re-export alone is no import.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules at the top of `src`, floor by floor, the highest first. Modules on one line do not know each other.
const FLOORS: [&[&str]; 10] = [
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

/// A path from the root of the crate.
type Module = Vec<String>;

/// A source file, without its comments and tests.
struct File {
    /// The names that it imports or re-exports, each with where it comes from.
    names: BTreeMap<String, Module>,
    /// The paths that it uses.
    uses: BTreeSet<Module>,
}

/// Reads the text of every file below a directory, by module.
fn read(directory: &Path, module: &Module, texts: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let below = [&module[..], &[name.clone()]].concat();
        if path.is_dir() {
            read(&path, &below, texts);
        } else if !["lib", "main"].contains(&&*name) {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().split("#[cfg(all(test").next().unwrap();
            // A visibility is no import.
            let code = code.replace("pub(in crate::", "pub(");
            let code = code.lines().map(str::trim).filter(|line| !line.starts_with("//"));
            // Whether it is a re-export makes no difference.
            let code = code.map(|line| match line.split_once("use ") {
                Some(("pub " | "pub(super) " | "pub(crate) ", rest)) => format!("\nuse {rest}"),
                _ => format!("\n{line}"),
            });
            texts.insert(if name == "mod" { module.clone() } else { below }, code.collect());
        }
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
    let items = rest.rsplit_once('}').unwrap().0.split(is_separator).filter(|item| !item.trim().is_empty());
    items.for_each(|item| expand(item, &before, paths));
}

/// Returns a path of a file from the root; `None` if it leads out of the crate.
fn absolute(path: &str, module: &Module, texts: &BTreeMap<Module, String>) -> Option<Module> {
    let parts: Vec<String> = path.split("::").map(str::to_owned).collect();
    let ups = parts.iter().take_while(|part| *part == "super").count();
    let from = |ups: usize, skip: usize| [&module[..module.len() - ups], &parts[skip..]].concat();
    match parts[0].as_str() {
        "crate" => Some(parts[1..].to_vec()),
        "super" => Some(from(ups, ups)),
        "self" => Some(from(0, 1)),
        _ => Some(from(0, 0)).filter(|path| texts.contains_key(&path[..=module.len()])),
    }
}

fn parse(module: &Module, text: &str, texts: &BTreeMap<Module, String>) -> File {
    let mut pieces = text.split("\nuse ");
    let (mut names, mut rest) = (BTreeMap::new(), pieces.next().unwrap().to_owned());
    for piece in pieces {
        let (tree, after) = piece.split_once(';').unwrap();
        rest += after;
        let mut paths = Vec::new();
        expand(tree, "", &mut paths);
        for path in paths {
            let path = path.split(" as ").next().unwrap().trim_end_matches("::self");
            if let Some(path) = absolute(path, module, texts) {
                names.insert(path.last().unwrap().clone(), path);
            }
        }
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = rest.split(|c| !is_word(c)).collect();
    let used = names.iter().filter(|(name, _)| words.contains(name.as_str())).map(|(_, path)| path.clone());
    let inline = rest.split(|c| !is_word(c) && c != ':').filter(|path| path.contains("::"));
    let uses = used.chain(inline.filter_map(|path| absolute(path.trim_matches(':'), module, texts))).collect();
    File { names, uses }
}

/// Returns the file that defines what a path names.
fn defined_in(path: &Module, files: &BTreeMap<Module, File>) -> Option<Module> {
    let length = (1..=path.len()).rev().find(|length| files.contains_key(&path[..*length]))?;
    let (module, rest) = path.split_at(length);
    match rest.first().and_then(|name| files[module].names.get(name)) {
        Some(target) => defined_in(&[&target[..], &rest[1..]].concat(), files),
        None => Some(module.to_vec()),
    }
}

#[test]
fn no_file_imports_in_a_cycle_or_from_a_floor_above() {
    let mut texts = BTreeMap::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &Vec::new(), &mut texts);
    let files: BTreeMap<_, _> =
        texts.iter().map(|(module, text)| (module.clone(), parse(module, text, &texts))).collect();
    let imports = |(module, file): (&Module, &File)| {
        let defined = file.uses.iter().filter_map(|path| defined_in(path, &files));
        (module.clone(), defined.filter(|other| other != module).collect::<BTreeSet<_>>())
    };
    let mut imports: BTreeMap<_, _> = files.iter().map(imports).collect();
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 500, "imports are not recognised");
    let floor = |module: &Module| FLOORS.iter().position(|floor| floor.contains(&&*module[0])).unwrap();
    for (module, others) in &imports {
        for other in others.iter().filter(|other| other[0] != module[0]) {
            assert!(floor(other) > floor(module), "{} imports {}", module.join("::"), other.join("::"));
        }
    }
    // What imports nothing of the rest, or is imported by none of it, is in no cycle.
    let is_done = |module: &Module, imports: &BTreeMap<Module, BTreeSet<Module>>| {
        imports[module].is_empty() || !imports.values().any(|others| others.contains(module))
    };
    while let Some(done) = imports.keys().find(|module| is_done(module, &imports)).cloned() {
        imports.remove(&done);
        imports.values_mut().for_each(|others| others.retain(|other| *other != done));
    }
    let names = |others: BTreeSet<Module>| others.iter().map(|other| other.join("::")).collect::<Vec<_>>();
    let cycles: Vec<_> = imports.into_iter().map(|(module, others)| (module.join("::"), names(others))).collect();
    assert!(cycles.is_empty(), "imports in a cycle: {cycles:#?}");
}
