//! Runs each operation of training alone, with its gradients, on the device and, in `f32`, on the CPU.

use burn::module::Param;
use burn::nn::Embedding;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Int, Tensor, TensorData, module};
use contract::Result;
use model::parameters::host_values;
use model::train::adamw::{AdamW, global_norm};
use model::train::head::head_loss;
use model::{Precision, fused};
use serde_json::json;

use crate::{ADAMW, print_line};

/// The number of sequences, tokens per sequence, heads and features per head, as in real training. The width is the product of the last
/// two.
const SIZES: [usize; 4] = [2, 1024, 3, 64];
const VOCABULARY: usize = 200;

type Values = Vec<(&'static str, Vec<f32>)>;

/// Every operation: its name, whether training on a GPU uses it, and its precision. For unused operations the difference is only reported.
const OPERATIONS: [(&str, bool, Precision, fn(&Device, Precision) -> Result<Values>); 12] = [
    ("linear", true, Precision::F32, linear),
    ("layer_norm", true, Precision::F32, layer_norm),
    ("gelu_new", true, Precision::F32, gelu_new),
    ("attention", true, Precision::F32, |device, precision| attention(device, precision, true, true)),
    ("embedding", true, Precision::F32, embedding),
    ("head", true, Precision::F32, head),
    ("adamw", true, Precision::F32, adamw),
    ("linear", true, Precision::Bf16, linear),
    ("attention", true, Precision::Bf16, |device, precision| attention(device, precision, true, true)),
    ("head", true, Precision::Bf16, head),
    ("attention of Burn", false, Precision::F32, |device, precision| attention(device, precision, false, false)),
    ("attention of Burn, sliced inputs", false, Precision::F32, |device, precision| {
        attention(device, precision, true, false)
    }),
];

/// Returns the largest allowed relative difference: in `f32`, that of sums in another order without TF32; in `bf16`, that of factors and
/// results with 8 bits.
fn rounding(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-4,
        Precision::Bf16 => 1e-2,
    }
}

/// Prints the relative difference of each value and gradient from the CPU's. Returns whether those used in training agree.
pub fn run(device: &Device) -> Result<bool> {
    let mut right = true;
    for (name, used, precision, operation) in OPERATIONS {
        let mut line = json!({ "operation": name, "used": used, "precision": precision });
        let equal = match (operation(device, precision), operation(&Device::flex(), Precision::F32)) {
            (Ok(ours), Ok(theirs)) => {
                let mut equal = true;
                for ((part, ours), (_, theirs)) in ours.iter().zip(&theirs) {
                    let difference = relative_difference(ours, theirs);
                    // JSON has no infinity.
                    line[*part] =
                        if difference.is_finite() { difference.into() } else { format!("{difference}").into() };
                    equal &= difference < rounding(precision);
                }
                equal
            }
            (Err(error), _) | (_, Err(error)) => {
                line["error"] = error.to_string().chars().take(300).collect::<String>().into();
                false
            }
        };
        line["equal"] = equal.into();
        print_line(&line);
        right &= equal || !used;
    }
    Ok(right)
}

/// ‖ours − theirs‖ / ‖theirs‖.
fn relative_difference(ours: &[f32], theirs: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let size = norm(&mut theirs.iter().map(|value| f64::from(*value)));
    let error = norm(&mut ours.iter().zip(theirs).map(|(ours, theirs)| f64::from(*ours) - f64::from(*theirs)));
    error / size.max(f64::MIN_POSITIVE)
}

/// Values from −½ to ½.
fn values(size: usize, seed: usize) -> Vec<f32> {
    (0..size).map(|at| ((at * 7919 + seed * 104_729) % 10_007) as f32 / 10_007.0 - 0.5).collect()
}

fn tensor<const D: usize>(device: &Device, shape: [usize; D], seed: usize) -> Tensor<D> {
    let device = device.clone().autodiff();
    Tensor::from_data(TensorData::new(values(shape.iter().product(), seed), shape), &device).require_grad()
}

fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let size = tensor.shape().num_elements();
    host_values(tensor.reshape([size]))
}

/// Returns the result and the gradients of its weighted sum.
fn backward<const R: usize, const A: usize, const B: usize>(
    result: Tensor<R>,
    one: &Tensor<A>,
    other: &Tensor<B>,
) -> Result<Values> {
    let shape = result.shape();
    let weights = Tensor::<1>::from_data(values(shape.num_elements(), 99).as_slice(), &result.device()).reshape(shape);
    let gradients = (result.clone() * weights).sum().backward();
    let mut all = vec![("value", host(result.inner())?)];
    if let Some(gradient) = one.grad(&gradients) {
        all.push(("by first", host(gradient)?));
    }
    if let Some(gradient) = other.grad(&gradients) {
        all.push(("by second", host(gradient)?));
    }
    Ok(all)
}

fn linear(device: &Device, precision: Precision) -> Result<Values> {
    let [batch, length, heads, part] = SIZES;
    let (x, w) = (tensor(device, [batch, length, heads * part], 1), tensor(device, [heads * part, 2 * part], 2));
    let y = module::linear(precision.factor(x.clone()), precision.factor(w.clone()), None);
    backward(precision.result(y), &x, &w)
}

fn layer_norm(device: &Device, _: Precision) -> Result<Values> {
    let [batch, length, heads, part] = SIZES;
    let (x, w) = (tensor(device, [batch, length, heads * part], 1), tensor(device, [heads * part], 2));
    let bias = tensor(device, [heads * part], 3);
    backward(fused::layer_norm(x.clone(), w.clone(), bias, 1e-5, Precision::F32.dtype()), &x, &w)
}

fn gelu_new(device: &Device, _: Precision) -> Result<Values> {
    let [batch, length, heads, part] = SIZES;
    let x = tensor(device, [batch, length, heads * part], 1);
    backward(fused::gelu_new(x.clone().mul_scalar(6.0)), &x, &x)
}

/// Our attention or Burn's, on slices of one tensor as a block computes it, or on three tensors.
fn attention(device: &Device, precision: Precision, sliced: bool, own: bool) -> Result<Values> {
    let [batch, length, heads, part] = SIZES;
    let attend = |query, key, value| match own {
        true => fused::causal_attention(query, key, value, fused::causal_mask(length, &device.clone().autodiff())),
        false => {
            let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
            module::attention(query, key, value, None, None, options)
        }
    };
    if !sliced {
        let [query, key, value] = [1, 2, 3].map(|seed| tensor(device, [batch, heads, length, part], seed));
        let key = key.mul_scalar(4.0);
        return backward(attend(query.clone(), key, value.clone()), &query, &value);
    }
    let joined = tensor(device, [batch, length, 3 * heads * part], 1);
    let factors = precision.factor(joined.clone());
    let [query, key, value] = [0, 1, 2].map(|at| {
        let width = heads * part;
        let of = factors.clone().slice([0..batch, 0..length, at * width..(at + 1) * width]);
        of.reshape([batch, length, heads, part]).swap_dims(1, 2)
    });
    let result = attend(query, key, value).swap_dims(1, 2).reshape([batch, length, heads * part]);
    backward(precision.result(result), &joined, &joined)
}

fn embedding(device: &Device, _: Precision) -> Result<Values> {
    let [batch, length, heads, part] = SIZES;
    let weight = tensor(device, [VOCABULARY, heads * part], 1);
    let ids: Vec<i32> = (0..batch * length).map(|at| (at * at % VOCABULARY) as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, length]), &device.clone().autodiff());
    let embedding = Embedding { weight: Param::initialized(burn::module::ParamId::new(), weight.clone()) };
    backward(embedding.forward(ids), &weight, &weight)
}

fn head(device: &Device, precision: Precision) -> Result<Values> {
    let [batch, length, heads, part] = SIZES;
    let (rows, width) = (batch * length, heads * part);
    let (features, embedding) =
        (tensor(device, [rows, width], 1).inner(), tensor(device, [VOCABULARY, width], 2).inner());
    let next: Vec<i32> = (0..rows).map(|at| (at * 31 % VOCABULARY) as i32).collect();
    let next = Tensor::<1, Int>::from_data(TensorData::new(next, [rows]), device);
    let head = head_loss(features, embedding, next, 1.0, 0.0, precision);
    Ok(vec![("value", host(head.loss)?), ("by first", host(head.features)?), ("by second", host(head.embedding)?)])
}

fn adamw(device: &Device, _: Precision) -> Result<Values> {
    let shapes = [1000usize, 37, 4096];
    let of = |seed: usize| shapes.map(|size| tensor(device, [size], seed + size).inner()).to_vec();
    let mut parameters = of(1);
    let mut optimizer = AdamW::new(ADAMW, vec![true, false, true], &parameters);
    let mut norms = Vec::new();
    for step in 0..3 {
        let gradients = of(10 + step);
        let norm = global_norm(&gradients);
        parameters = optimizer.update(1e-2, parameters, gradients, norm.clone());
        norms.extend(host(norm)?);
    }
    Ok(vec![("norms", norms), ("value", host(Tensor::cat(parameters, 0))?)])
}
