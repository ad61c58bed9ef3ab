//! Automatic differentiation of the operations that support it.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend};

use super::Cpu;
use crate::fused::gradient::register;

#[derive(Debug)]
struct Linear;

impl<B: Backend + Cpu> Backward<B, 3> for Linear {
    /// `x` and the weight.
    type State = [NodeId; 2];

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let parents = ops.parents.map(|parent| parent.map(|parent| parent.id));
        let dy = gradients.consume::<B>(&ops.node);
        let [x, weight]: [FloatTensor<B>; 2] = ops.state.map(|node| checkpointer.retrieve_node_output(node));
        register::<B, 3>(gradients, parents, B::cpu_linear_backward(x, weight, dy).into());
    }
}

#[derive(Debug)]
struct LinearOnto;

impl<B: Backend + Cpu> Backward<B, 4> for LinearOnto {
    /// `x` and the weight.
    type State = [NodeId; 2];

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let parents = ops.parents.map(|parent| parent.map(|parent| parent.id));
        let dy = gradients.consume::<B>(&ops.node);
        let [x, weight]: [FloatTensor<B>; 2] = ops.state.map(|node| checkpointer.retrieve_node_output(node));
        let (by_x, by_weight, by_bias) = B::cpu_linear_backward(x, weight, dy.clone());
        register::<B, 4>(gradients, parents, [by_x, by_weight, by_bias, dy]);
    }
}

#[derive(Debug)]
struct Attention;

impl<B: Backend + Cpu> Backward<B, 1> for Attention {
    /// The joint projection, the result, its sums, and the number of heads.
    type State = (NodeId, FloatTensor<B>, FloatTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let parents = ops.parents.map(|parent| parent.map(|parent| parent.id));
        let dy = gradients.consume::<B>(&ops.node);
        let (joined, y, sums, heads) = ops.state;
        let joined: FloatTensor<B> = checkpointer.retrieve_node_output(joined);
        register::<B, 1>(gradients, parents, [B::cpu_causal_attention_backward(joined, y, sums, dy, heads)]);
    }
}

impl<B: Backend + Cpu, C: CheckpointStrategy> Cpu for Autodiff<B, C> {
    fn cpu_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        match Linear.prepare::<C>([x.node(), weight.node(), bias.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = [&x, &weight].map(|tensor| prepared.checkpoint(tensor));
                let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
                prepared.finish(kept, B::cpu_linear(x, weight, bias))
            }
            OpsKind::UnTracked(prepared) => {
                let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
                prepared.finish(B::cpu_linear(x, weight, bias))
            }
        }
    }

    fn cpu_linear_onto(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        onto: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node(), onto.node()];
        match LinearOnto.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = [&x, &weight].map(|tensor| prepared.checkpoint(tensor));
                let [x, weight, bias, onto] = [x, weight, bias, onto].map(|tensor| tensor.into_primitive());
                prepared.finish(kept, B::cpu_linear_onto(x, weight, bias, onto))
            }
            OpsKind::UnTracked(prepared) => {
                let [x, weight, bias, onto] = [x, weight, bias, onto].map(|tensor| tensor.into_primitive());
                prepared.finish(B::cpu_linear_onto(x, weight, bias, onto))
            }
        }
    }

    fn cpu_linear_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("cpu_linear_backward has no gradient")
    }

    fn cpu_causal_attention(joined: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        match Attention.prepare::<C>([joined.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = prepared.checkpoint(&joined);
                let (y, sums) = B::cpu_causal_attention_sums(joined.into_primitive(), heads);
                prepared.finish((kept, y.clone(), sums, heads), y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::cpu_causal_attention(joined.into_primitive(), heads)),
        }
    }

    fn cpu_causal_attention_sums(_: FloatTensor<Self>, _: usize) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("cpu_causal_attention_sums has no gradient")
    }

    fn cpu_causal_attention_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: usize,
    ) -> FloatTensor<Self> {
        panic!("cpu_causal_attention_backward has no gradient")
    }

    fn cpu_add_rows(_: FloatTensor<Self>, _: IntTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("cpu_add_rows has no gradient")
    }

    fn cpu_matmul(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("cpu_matmul has no gradient")
    }

    fn cpu_add_matmul(_: FloatTensor<Self>, _: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("cpu_add_matmul has no gradient")
    }
}
