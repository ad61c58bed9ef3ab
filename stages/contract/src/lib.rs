//! Floor 0: what the engine and a stage kind know of each other, and nothing else.
//!
//! A stage kind implements [`Stage`]: two types of settings ([`Stage::Spec`] is hashed into the key, [`Stage::Exec`] is
//! not), typed ports, and a `run` that reads [`Inputs`], writes [`Outputs`] and reports [`Progress`]. The engine sees it
//! as a [`Kind`], the same thing with its types erased. The engine knows no stage; a stage knows no engine.
//!
//! | module | noun |
//! |---|---|
//! | [`digest`] | `Digest`, a blake3 hash; `HashingWriter` |
//! | [`tree`] | `Tree`, an output: the list of its files |
//! | [`path`] | paths of settings |
//! | [`port`] | what flows along an edge of the graph |
//! | [`stage`] | `Stage`, the trait of a stage kind, and what it declares |
//! | [`kind`] | `Kind` and `AnyStage`, type-erased |
//! | [`context`] | what a running stage is handed |
//! | [`derived`] | files that follow from an input alone, shared by stages |
//! | [`outputs`] | where a running stage writes |
//! | [`progress`] | rows, bytes or steps done, notes, metrics |
//! | [`resume`] | what an interrupted build left for the next one |
//! | [`infer`] | facts, conflicts and costs inferred before anything runs |
//! | [`figures`] | figures for people |
//! | [`text`] | text from elsewhere, for a terminal |
//! | [`draw`] | random choices from hash(seed, identity of the item) |
//! | [`error`] | what went wrong, where, and a hint |

pub mod cancel;
pub mod context;
pub mod derived;
pub mod device;
pub mod digest;
pub mod draw;
pub mod error;
pub mod figures;
pub mod harness;
pub mod infer;
pub mod kind;
pub mod outputs;
pub mod path;
pub mod port;
pub mod progress;
pub mod resume;
pub mod stage;
pub mod text;
pub mod tree;

pub use cancel::Cancel;
pub use context::{Context, InputFile, InputTree, Inputs, Resources, SourceFile};
pub use derived::{Derived, DerivedEntry};
pub use device::Device;
pub use digest::{Digest, HashingWriter};
pub use draw::Draw;
pub use error::{Problem, Result, StageError};
pub use infer::{Advice, Conflict, ConflictText, Cost, Fact, Facts, Inferred, InputFacts, Origin, Shape};
pub use kind::{AnyStage, Kind};
pub use outputs::{OutputFile, OutputTree, Outputs, Staged};
pub use path::{push_key, setting_path};
pub use port::{InputPort, OutputPort, PortType, Ports, is_port_name};
pub use progress::{Note, Progress, Unit};
pub use resume::Checkpoint;
pub use stage::{Class, Needs, SourcePattern, Stage};
pub use text::{printable, shortened, shortened_pair, shortened_to};
pub use tree::{Tree, TreeEntry, TreePath};
