//! Loading a model: few large files of tensors, each tensor copied into memory, as `safetensors` does it: through a map of the file.
//!
//! The model that is made has the tensors of Llama 3 8B (hidden 4096, 14336 in the feed-forward layers, 128256 words, 8 key heads of 128) in 4 files, as it
//! is published. Where it may not be as large, it has fewer layers, and where even that is too large, narrower ones.

use super::dataset::{evict, find};
use super::error::{At, In, MlError};
use super::format::safetensors::{self, PREFIX, Tensor};
use super::halt::Halt;
use super::noise::Noise;
use super::report::{DatasetFacts, Figures, LoadFigures, MlReport, PageCache, Transfer};
use super::scratch::Scratch;
use super::settings::MlSettings;
use super::{Event, Progress};
use rustix::mm::{MapFlags, ProtFlags};
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LAYERS: u64 = 32;
const SHARDS: u64 = 4;
/// What is copied between two questions whether to go on.
const PIECE: usize = 1 << 20;

/// Loads the model as many times as wanted, all ranks at once: each loads all of it.
pub(super) fn run(dir: &Path, settings: &MlSettings, progress: &dyn Progress, halt: &Halt<'_>) -> Result<MlReport, MlError> {
    let (files, scratch) = match &settings.dataset {
        Some(existing) => (find(existing, &["safetensors"], halt)?, None),
        None => make(dir, settings, progress, halt).map(|(files, scratch)| (files, Some(scratch)))?,
    };
    let (of, mut loads, mut tensors) = (settings.rounds(), Vec::new(), 0);
    for number in 1..=of {
        progress.event(Event::Round { number, of });
        if settings.evict {
            evict(&files, halt)?;
        }
        let ranks = halt.in_parallel(settings.accelerators, |_| load(&files, halt))?;
        tensors = ranks.first().map_or(0, |rank| rank.tensors);
        loads.push(Transfer::of(&ranks.iter().map(|rank| (rank.bytes, rank.time)).collect::<Vec<_>>()));
    }
    let sizes: Result<Vec<u64>, MlError> = files.iter().map(|path| Ok(fs::metadata(path).at("look at", path)?.len())).collect();
    let bytes = sizes?.iter().sum();
    let facts = DatasetFacts {
        files: files.len() as u64,
        samples: tensors,
        bytes,
        existing: settings.dataset.clone(),
        kept: scratch.map_or(Ok(None), Scratch::finish)?,
        page_cache: PageCache::of(bytes, settings.evict),
    };
    Ok(MlReport::new(settings, facts, Figures::Load(LoadFigures { loads })))
}

/// What a rank loaded.
struct Loaded {
    tensors: u64,
    bytes: u64,
    time: Duration,
}

fn load(files: &[PathBuf], halt: &Halt<'_>) -> Result<Loaded, MlError> {
    let (begin, mut loaded) = (Instant::now(), Loaded { tensors: 0, bytes: 0, time: Duration::ZERO });
    for path in files {
        let map = Map::of(path)?;
        let (prefix, _) =
            map.bytes().split_first_chunk().ok_or(super::FormatFault::Short("the header's length")).in_file(path)?;
        let len = safetensors::json_len(*prefix).in_file(path)?;
        let json = map.bytes().get(PREFIX..PREFIX + len).ok_or(super::FormatFault::Short("the header")).in_file(path)?;
        for range in safetensors::tensors(json, map.bytes().len() as u64).in_file(path)? {
            loaded.bytes += copy(map.bytes(), range, halt)?;
            loaded.tensors += 1;
        }
    }
    loaded.time = begin.elapsed();
    Ok(loaded)
}

/// Copies a tensor out of the map, into memory that is used again for the next piece: what is measured is the file, not the allocator.
fn copy(map: &[u8], range: Range<u64>, halt: &Halt<'_>) -> Result<u64, MlError> {
    let mut memory = [0; PIECE >> 4];
    let bytes = range.end - range.start;
    for piece in map[range.start as usize..range.end as usize].chunks(PIECE) {
        halt.check()?;
        for part in piece.chunks(memory.len()) {
            memory[..part.len()].copy_from_slice(part);
            black_box(&memory);
        }
    }
    Ok(bytes)
}

/// A file in memory.
struct Map {
    start: *mut std::ffi::c_void,
    len: usize,
}

impl Map {
    fn of(path: &Path) -> Result<Self, MlError> {
        let file = File::open(path).at("open", path)?;
        let len = file.metadata().at("look at", path)?.len() as usize;
        if len == 0 {
            return Err(super::FormatFault::Short("the header's length")).in_file(path);
        }
        // SAFETY: the kernel chooses where, so that nothing else is there; the map is private and only read.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, &file, 0) }
            .at("map", path)?;
        Ok(Map { start, len })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped from `start` until this is dropped, and nobody writes to the files of a run. One that somebody cuts short
        // all the same ends the process with SIGBUS, as it ends any program that loads a model this way.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.len) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `of`, and no slice of it outlives this.
        let _ = unsafe { rustix::mm::munmap(self.start, self.len) };
    }
}

fn make(dir: &Path, settings: &MlSettings, progress: &dyn Progress, halt: &Halt<'_>) -> Result<(Vec<PathBuf>, Scratch), MlError> {
    let shards = in_shards(tensors(settings.dataset_bytes)?);
    let of = shards.iter().flatten().map(Tensor::bytes).sum();
    let mut scratch = Scratch::create(dir, settings.workload.name(), of)?;
    let (mut files, mut bytes) = (Vec::new(), 0);
    for (number, shard) in shards.iter().enumerate() {
        let path = scratch.path().join(format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len()));
        write(&path, shard, settings.seed ^ number as u64, halt)?;
        files.push(path);
        bytes += shard.iter().map(Tensor::bytes).sum::<u64>();
        progress.event(Event::Generated { bytes, of });
    }
    if settings.keep {
        scratch.stay();
    }
    Ok((files, scratch))
}

fn write(path: &Path, tensors: &[Tensor], seed: u64, halt: &Halt<'_>) -> Result<(), MlError> {
    let mut out = BufWriter::with_capacity(PIECE, File::create_new(path).at("create", path)?);
    out.write_all(&safetensors::header(tensors)).at("write", path)?;
    let (mut noise, mut left) = (Noise::new(seed), tensors.iter().map(Tensor::bytes).sum::<u64>());
    while left > 0 {
        halt.check()?;
        let piece = noise.next(left);
        out.write_all(piece).at("write", path)?;
        left -= piece.len() as u64;
    }
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error).at("write", path)?;
    file.sync_data().at("sync", path)
}

/// The tensors of a model of at most `limit` bytes.
fn tensors(limit: u64) -> Result<Vec<Tensor>, MlError> {
    for narrower in (0..10).map(|power| 1 << power) {
        let (ends, layer) = (ends(narrower), layer(0, narrower));
        let sum = |tensors: &[Tensor]| tensors.iter().map(Tensor::bytes).sum::<u64>();
        let layers = (limit.saturating_sub(sum(&ends)) / sum(&layer)).min(LAYERS);
        if layers > 0 {
            return Ok((0..layers).flat_map(|number| self::layer(number, narrower)).chain(ends).collect());
        }
    }
    Err(MlError::Setting { name: "the model's size", value: limit.to_string(), wanted: "no model is as small" })
}

/// Words, and what stands before and behind the layers.
fn ends(narrower: u64) -> Vec<Tensor> {
    let (words, hidden) = (128_256 / narrower, 4096 / narrower);
    let named = |name: &str, shape: &[u64]| Tensor { name: name.into(), shape: shape.into() };
    vec![
        named("model.embed_tokens.weight", &[words, hidden]),
        named("model.norm.weight", &[hidden]),
        named("lm_head.weight", &[words, hidden]),
    ]
}

fn layer(number: u64, narrower: u64) -> Vec<Tensor> {
    let (hidden, keys, wide) = (4096 / narrower, 1024 / narrower, 14_336 / narrower);
    let named = |name: &str, shape: &[u64]| Tensor { name: format!("model.layers.{number}.{name}.weight"), shape: shape.into() };
    vec![
        named("input_layernorm", &[hidden]),
        named("self_attn.q_proj", &[hidden, hidden]),
        named("self_attn.k_proj", &[keys, hidden]),
        named("self_attn.v_proj", &[keys, hidden]),
        named("self_attn.o_proj", &[hidden, hidden]),
        named("post_attention_layernorm", &[hidden]),
        named("mlp.gate_proj", &[wide, hidden]),
        named("mlp.up_proj", &[wide, hidden]),
        named("mlp.down_proj", &[hidden, wide]),
    ]
}

/// Tensors in files of about the same size.
fn in_shards(tensors: Vec<Tensor>) -> Vec<Vec<Tensor>> {
    let share = tensors.iter().map(Tensor::bytes).sum::<u64>().div_ceil(SHARDS);
    let (mut shards, mut filled) = (vec![Vec::new()], 0);
    for tensor in tensors {
        if filled >= share && shards.len() < SHARDS as usize {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += tensor.bytes();
        shards.last_mut().expect("there is one from the beginning").push(tensor);
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_model_is_llama_3_8b() {
        let whole = tensors(u64::MAX).expect("fits");
        // The published model has 8,030,261,248 parameters in 291 tensors.
        assert_eq!(whole.iter().map(Tensor::bytes).sum::<u64>(), 2 * 8_030_261_248);
        assert_eq!((whole.len(), in_shards(whole).len()), (291, 4));
    }

    #[test]
    fn a_smaller_one_is_not_larger_than_it_may_be() {
        for limit in [1 << 20, 100 << 20, 1 << 30, 4 << 30, 10 << 30] {
            let bytes: u64 = tensors(limit).expect("fits").iter().map(Tensor::bytes).sum();
            assert!(bytes <= limit && bytes > limit / 5, "{bytes} of {limit}");
        }
        assert!(tensors(100).is_err());
    }
}
