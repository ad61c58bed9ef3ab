//! Measures how fast a model trains on the CPU, and how long its checkpoint takes.
//!
//! ```text
//! cargo bench --workspace --bench train_speed -- [LAYERS WIDTH HEADS VOCABULARY BATCH SEQUENCE STEPS] [weights=FILE] [products]
//! ```
//!
//! Prints a line of JSON: the loss of each step, tokens a second and processor seconds a step over all steps but the first, and
//! the peak memory. With `weights` it writes the initial weights to a file of the safetensors format, for a peer
//! (benches/train/compare.py); with `products` it adds the seconds that the matrix products of a step take alone, and without either
//! the size and time of one checkpoint.

use std::fs::{self, File};
use std::io::BufWriter;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use contract::machine::peak_memory;
use contract::{Cancel, StageError};
use model::fused::cpu::matmul;
use model::fused::memory::Reuse;
use model::initial::initial_values;
use model::tensor_file::write_tensors;
use model::train::adamw::AdamWSettings;
use model::train::checkpoint::Checkpoints;
use model::train::{Batch, Trainer};
use model::{Gpt2, Gpt2Config, Precision};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), StageError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut sizes = [4, 256, 4, 8192, 4, 256, 10];
    let numbers = arguments.iter().filter_map(|argument| argument.parse().ok());
    sizes.iter_mut().zip(numbers).for_each(|(size, number)| *size = number);
    let [layers, width, heads, vocabulary, sequences, positions, steps] = sizes;
    let config = Gpt2Config { vocabulary, positions, width, layers, heads, end_of_text: None };
    let values = |tensor: &_| Ok::<_, StageError>(initial_values(&config, 1, tensor));
    let weights = arguments.iter().find_map(|argument| argument.strip_prefix("weights="));
    if let Some(path) = weights {
        let tensors = config.tensors();
        let mut file = BufWriter::new(File::create(path)?);
        write_tensors(&mut file, &[("format", "pt")], &tensors, |at| values(&tensors[at]))?;
    }
    let device = Device::flex().autodiff();
    let model = Gpt2::new(&config, &device, values)?;
    let settings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, clip: 1.0 };
    let mut trainer = Trainer::new(&config, model, settings, Precision::F32, device);
    let id = |at: usize| ((at * 7919) % vocabulary) as i32;
    let batch = Batch { ids: (0..sequences * positions).map(id).collect(), sequences };
    let (mut start, mut processor) = (Instant::now(), 0.0);
    let mut losses = Vec::with_capacity(steps);
    for step in 0..steps {
        losses.push(trainer.update(std::slice::from_ref(&batch), 1e-3, &Cancel::default())?.loss);
        if step == 0 {
            (start, processor) = (Instant::now(), processor_seconds());
        }
    }
    let counted = (steps - 1) as f64;
    let (seconds, processor) = (start.elapsed().as_secs_f64(), processor_seconds() - processor);
    let mut line = json!({
        "parameters": config.parameters(),
        "losses": losses,
        "tokens_per_second": counted * (sequences * positions) as f64 / seconds,
        "seconds_per_step": seconds / counted,
        "processor_seconds_per_step": processor / counted,
        "peak_mib": peak_mib(),
    });
    if arguments.iter().any(|argument| argument == "products") {
        drop(trainer);
        line["products_seconds"] = json!(products(&config, sequences, positions));
    } else if weights.is_none() {
        let folder = tempfile::tempdir()?;
        let start = Instant::now();
        Checkpoints::below(folder.path())?.save(1, 0.0, &config, &trainer, &[])?;
        line["checkpoint_seconds"] = json!(start.elapsed().as_secs_f64());
        let state = fs::metadata(folder.path().join("checkpoints/00000001/state.safetensors"))?;
        line["checkpoint_bytes"] = json!(state.len());
    }
    println!("{line}");
    Ok(())
}

/// The seconds that the matrix products of a step take without those of attention: each linear map, forward and both gradients.
fn products(config: &Gpt2Config, sequences: usize, positions: usize) -> f64 {
    let Gpt2Config { vocabulary, width, layers, .. } = *config;
    let _memory = Reuse::begin();
    let rows = sequences * positions;
    let linear = [[width, 3 * width], [width, width], [width, 4 * width], [4 * width, width]];
    let layer: f64 = linear.iter().map(|[inputs, outputs]| product_seconds([rows, *inputs, *outputs])).sum();
    layers as f64 * layer + product_seconds([sequences * (positions - 1), width, vocabulary])
}

/// The median seconds of `y = x w`, `dx = dy wᵀ` and `dw = xᵀ dy` together.
fn product_seconds([rows, inputs, outputs]: [usize; 3]) -> f64 {
    let random = |shape| Tensor::<2>::random(shape, Distribution::Default, &Device::flex());
    let [x, w, dy] = [random([rows, inputs]), random([inputs, outputs]), random([rows, outputs])];
    let mut seconds: Vec<f64> = (0..5)
        .map(|_| {
            let start = Instant::now();
            drop(matmul(x.clone(), w.clone()));
            drop(matmul(dy.clone(), w.clone().transpose()));
            drop(matmul(x.clone().transpose(), dy.clone()));
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[2]
}

/// The processor time of this process so far, in seconds; 0 where the system does not report it.
fn processor_seconds() -> f64 {
    // The kernel counts in hundredths of a second on every architecture (`USER_HZ`); the name before may hold spaces.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The peak memory of this process, in MiB; 0 where the system does not report it.
fn peak_mib() -> f64 {
    peak_memory().unwrap_or(0) as f64 / (1 << 20) as f64
}
