//! Automatic differentiation of the operations that support it.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend};
use burn::tensor::DType;

use super::{AdamWStep, Fused};

/// Adds the gradient with respect to each parent that requires one.
pub fn register<B: Backend, const N: usize>(
    gradients: &mut Gradients,
    parents: [Option<NodeId>; N],
    values: [FloatTensor<B>; N],
) {
    for (parent, value) in parents.into_iter().zip(values) {
        if let Some(parent) = parent {
            gradients.register::<B>(parent, value);
        }
    }
}

#[derive(Debug)]
struct GeluNew;

impl<B: Backend + Fused> Backward<B, 1> for GeluNew {
    type State = NodeId;

    fn backward(self, ops: Ops<NodeId, 1>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let parents = ops.parents.map(|parent| parent.map(|parent| parent.id));
        let dy = gradients.consume::<B>(&ops.node);
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(ops.state);
        register::<B, 1>(gradients, parents, [B::gelu_new_backward(x, dy)]);
    }
}

#[derive(Debug)]
struct LayerNorm;

impl<B: Backend + Fused> Backward<B, 3> for LayerNorm {
    /// `x`, weight, and the statistics of each row.
    type State = (NodeId, NodeId, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let parents = ops.parents.map(|parent| parent.map(|parent| parent.id));
        let dy = gradients.consume::<B>(&ops.node);
        let (x, weight, means, scales) = ops.state;
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        let weight: FloatTensor<B> = checkpointer.retrieve_node_output(weight);
        register::<B, 3>(gradients, parents, B::layer_norm_backward(x, dy, weight, means, scales).into());
    }
}

#[derive(Debug)]
struct Attention;

impl<B: Backend + Fused> Backward<B, 3> for Attention {
    /// Query, key and value, the mask, and the result.
    type State = ([NodeId; 3], FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let parents = ops.parents.map(|parent| parent.map(|parent| parent.id));
        let dy = gradients.consume::<B>(&ops.node);
        let (inputs, mask, y) = ops.state;
        let [query, key, value]: [FloatTensor<B>; 3] = inputs.map(|node| checkpointer.retrieve_node_output(node));
        register::<B, 3>(gradients, parents, B::causal_attention_backward(query, key, value, mask, y, dy).into());
    }
}

impl<B: Backend + Fused, C: CheckpointStrategy> Fused for Autodiff<B, C> {
    fn causal_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let mask = mask.into_primitive();
        match Attention.prepare::<C>([query.node(), key.node(), value.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let inputs = [&query, &key, &value].map(|tensor| prepared.checkpoint(tensor));
                let [query, key, value] = [query, key, value].map(|tensor| tensor.into_primitive());
                let y = <B as Fused>::causal_attention(query, key, value, mask.clone());
                prepared.finish((inputs, mask, y.clone()), y)
            }
            OpsKind::UnTracked(prepared) => {
                let [query, key, value] = [query, key, value].map(|tensor| tensor.into_primitive());
                prepared.finish(<B as Fused>::causal_attention(query, key, value, mask))
            }
        }
    }

    fn causal_attention_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("causal_attention_backward has no gradient")
    }

    fn gelu_new(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match GeluNew.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = prepared.checkpoint(&x);
                prepared.finish(state, B::gelu_new(x.into_primitive()))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::gelu_new(x.into_primitive())),
        }
    }

    fn layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
        dtype: DType,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        match LayerNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = [&x, &weight].map(|tensor| prepared.checkpoint(tensor));
                let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
                let (y, means, scales) = B::layer_norm_statistics(x, weight, bias, epsilon, dtype);
                prepared.finish((kept[0], kept[1], means, scales), y)
            }
            OpsKind::UnTracked(prepared) => {
                let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
                prepared.finish(<B as Fused>::layer_norm(x, weight, bias, epsilon, dtype))
            }
        }
    }

    fn gelu_new_backward(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("gelu_new_backward has no gradient")
    }

    fn layer_norm_statistics(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
        _: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("layer_norm_statistics has no gradient")
    }

    fn layer_norm_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("layer_norm_backward has no gradient")
    }

    fn head(_: FloatTensor<Self>, _: IntTensor<Self>, _: f32) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("the fused head has no automatic gradient")
    }

    fn adamw(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("adamw has no gradient")
    }
}
