//! A model's tensors as a flat list, in the order of [`crate::Gpt2Config::tensors`], and back.
//!
//! Each tensor is represented as a vector `[size]` without gradients, so that the optimiser, checkpoints and model files need no code for
//! different ranks.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use contract::{Result, StageError};

use crate::gpt2::Gpt2;

/// Returns the values of every tensor.
pub fn parameters(model: &Gpt2) -> Vec<Tensor<1>> {
    struct Collect(Vec<Tensor<1>>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(flat(param.val().inner()));
        }
    }
    let mut collect = Collect(Vec::new());
    model.visit(&mut collect);
    collect.0
}

/// Removes the gradient of every tensor from `gradients` and returns them. `first` are those of the first tensors, if they are known.
///
/// # Errors
/// Returns an error if a tensor has no gradient: every tensor is used in every forward pass of a model.
pub fn gradients(model: &Gpt2, first: Vec<Tensor<1>>, gradients: &mut Gradients) -> Result<Vec<Tensor<1>>> {
    struct Collect<'a> {
        gradients: &'a mut Gradients,
        known: usize,
        visited: usize,
        found: Vec<Option<Tensor<1>>>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.visited >= self.known {
                self.found.push(param.val().grad_remove(self.gradients).map(flat));
            }
            self.visited += 1;
        }
    }
    let (known, found) = (first.len(), first.into_iter().map(Some).collect());
    let mut collect = Collect { gradients, known, visited: 0, found };
    model.visit(&mut collect);
    let missing = || StageError::new("a parameter has no gradient");
    collect.found.into_iter().map(|gradient| gradient.ok_or_else(missing)).collect()
}

/// Moves the values of every tensor out of a model, which keeps zeros in their place that take no memory, until they are [`replaced`].
/// So nothing else holds the values once other copies of the model are gone, and they can be changed where they are.
pub fn taken(model: Gpt2) -> (Gpt2, Vec<Tensor<1>>) {
    struct Take(Vec<Tensor<1>>);
    impl ModuleMapper for Take {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, old, mapper) = param.consume();
            let (shape, device, tracked) = (old.shape(), old.device(), old.is_autodiff());
            self.0.push(flat(if tracked { old.inner() } else { old }));
            let zeros = Tensor::<D>::zeros([1; D], &device).expand(shape);
            Param::from_mapped_value(id, if tracked { zeros.require_grad() } else { zeros }, mapper)
        }
    }
    let mut take = Take(Vec::new());
    let model = model.map(&mut take);
    (model, take.0)
}

/// Returns the model with every tensor's values replaced.
pub fn replaced(model: Gpt2, values: Vec<Tensor<1>>) -> Gpt2 {
    struct Replace(std::vec::IntoIter<Tensor<1>>);
    impl ModuleMapper for Replace {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, old, mapper) = param.consume();
            let shape = old.shape();
            let value = match self.0.next() {
                Some(value) if old.is_autodiff() => Tensor::from_inner(value.reshape(shape)).require_grad(),
                Some(value) => value.reshape(shape),
                None => old,
            };
            Param::from_mapped_value(id, value, mapper)
        }
    }
    model.map(&mut Replace(values.into_iter()))
}

/// Returns a tensor's values on the host, row by row.
///
/// # Errors
/// Returns an error if they cannot be read from the device.
pub fn host_values(tensor: Tensor<1>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(|error| {
        StageError::new(format!("cannot read a tensor from the device: {error}"))
            .hint("the device may be out of memory or disconnected; check its driver's messages")
    })
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let size = tensor.shape().num_elements();
    tensor.reshape([size])
}
