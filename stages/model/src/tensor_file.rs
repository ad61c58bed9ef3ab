//! Files of the safetensors format, read and written one tensor at a time, so that a file of any size takes the memory of
//! its largest tensor (source: the format's README, `huggingface/safetensors`).
//!
//! ```text
//! u64 little-endian: bytes of the header
//! header: JSON, name -> { dtype, shape, data_offsets }, padded with spaces to a multiple of 8
//! data: the tensors one after another, row by row, little-endian
//! ```
//!
//! Every value is finite: a tensor that contains infinity or NaN is neither read nor written.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use burn::tensor::{bf16, f16};
use contract::{Result, StageError};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::config::TensorShape;

/// The maximum header size that is read, in bytes: a damaged length must not allocate all memory.
const GREATEST_HEADER: u64 = 100 << 20;

/// An open file and its header.
#[derive(Debug)]
pub struct TensorFile {
    file: File,
    path: PathBuf,
    header: Metadata,
    data: u64,
}

impl TensorFile {
    /// Reads the header of the file at `path`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, does not have the format, or is shorter or longer than its header declares.
    pub fn open(path: &Path) -> Result<Self> {
        let unreadable = |error| StageError::io("read it", &error).in_file(path);
        let malformed = |why: String| StageError::new(format!("not a safetensors file: {why}")).in_file(path);
        let file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut reader = BufReader::new(&file);
        let mut length = [0; 8];
        reader.read_exact(&mut length).map_err(|_| malformed("shorter than 8 bytes".into()))?;
        let length = u64::from_le_bytes(length);
        if length > GREATEST_HEADER.min(size) {
            return Err(malformed(format!("a header of {length} bytes in a file of {size}")));
        }
        let mut header = vec![0; length as usize];
        reader.read_exact(&mut header).map_err(|_| malformed("the header is cut off".into()))?;
        let header: Metadata = serde_json::from_slice(&header).map_err(|error| malformed(error.to_string()))?;
        let data = 8 + length;
        let expected = data + header.data_len() as u64;
        if expected != size {
            return Err(malformed(format!("{size} bytes where the header says {expected}")));
        }
        Ok(Self { file, path: path.to_owned(), header, data })
    }

    /// Returns whether the file has a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// Returns the names of its tensors, in the order of their data.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// Returns the value of a key of `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Reads the values of a tensor, as `f32` (from `f32`, `f16` or `bf16`).
    ///
    /// # Errors
    /// Returns an error if there is no tensor of that name, it has another shape or type, its bytes cannot be read, or a value is not
    /// finite.
    pub fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let wrong = |why: String| StageError::new(format!("tensor '{name}' {why}")).in_file(&self.path);
        let info = self.header.info(name).ok_or_else(|| wrong("is missing".into()))?;
        if info.shape != shape {
            return Err(wrong(format!("has shape {:?}, expected {shape:?}", info.shape))
                .hint("config.json and the weights must belong to the same model"));
        }
        let (start, end) = info.data_offsets;
        let dtype = info.dtype;
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(wrong(format!("has type {dtype:?}, expected F32, F16 or BF16"))
                .hint("quantised weights are not supported; save the model in one of these types"));
        }
        let mut bytes = vec![0; end - start];
        self.file
            .seek(SeekFrom::Start(self.data + start as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|error| StageError::io(format!("read tensor '{name}'"), &error).in_file(&self.path))?;
        let values = decode(dtype, &bytes);
        match non_finite(&values) {
            None => Ok(values),
            Some(value) => Err(wrong(format!("is not finite: it contains {value}"))
                .hint("the training that wrote it diverged: train again with a lower learning_rate")),
        }
    }
}

/// Returns a value that is infinite or NaN, if any.
fn non_finite(values: &[f32]) -> Option<f32> {
    // Without an early exit the compiler vectorises this pass, and nearly every tensor is finite.
    let all_finite = values.iter().fold(true, |finite, value| finite & value.is_finite());
    if all_finite { None } else { values.iter().copied().find(|value| !value.is_finite()) }
}

fn decode(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F16 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
    }
}

/// Writes a file of `f32` tensors; calls `values` for each in turn.
///
/// # Errors
/// Returns an error of `values`, or an error if a tensor has another size than its shape or a value that is not finite, or if
/// `writer` fails.
pub fn write_tensors(
    writer: &mut impl Write,
    metadata: &[(&str, &str)],
    tensors: &[TensorShape],
    mut values: impl FnMut(usize) -> Result<Vec<f32>>,
) -> Result<()> {
    let mut end = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = end;
        end += 4 * tensor.size();
        (tensor.name.clone(), TensorInfo { dtype: Dtype::F32, shape: tensor.shape.clone(), data_offsets: (start, end) })
    });
    let metadata: HashMap<_, _> = metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let header = Metadata::new(Some(metadata), infos.collect()).map_err(|error| StageError::new(error.to_string()))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| StageError::new(error.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    writer.write_all(&(header.len() as u64).to_le_bytes())?;
    writer.write_all(&header)?;
    let mut bytes = Vec::new();
    for (index, tensor) in tensors.iter().enumerate() {
        let values = values(index)?;
        if values.len() != tensor.size() {
            return Err(StageError::new(format!("tensor '{}' has {} values", tensor.name, values.len())));
        }
        if let Some(value) = non_finite(&values) {
            return Err(StageError::new(format!("tensor '{}' is not finite: it contains {value}", tensor.name))
                .hint("lower learning_rate, or raise warmup"));
        }
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        writer.write_all(&bytes)?;
    }
    Ok(())
}
