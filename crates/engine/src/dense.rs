//! A model's own matrix of a module, as plain numbers: base and low-rank update in one. For statements about weights; no run
//! multiplies by it.

use crate::batch::ModelId;
use crate::error::{Error, Result};
use crate::mat::Mat;
use crate::model::Model;
use crate::module::Module;
use crate::number::Number;
use lorascope_kernels::{MatRef, Packed, Write, matmul};

impl<R: Number> Model<R> {
    /// What `model` multiplies by at a module, `[outputs, inputs]`: `W + s·B·A`, with DoRA's gain on its rows. Without biases.
    ///
    /// # Errors
    /// A layer, module or model that does not exist, weights that can't be read or are not finite.
    pub fn dense_weight(&self, model: ModelId, layer: usize, module: Module) -> Result<Mat<R>> {
        self.check_models(&[model])?;
        let spec = self.spec();
        if layer >= spec.n_layers || !spec.modules().any(|m| m == module) {
            let why = format!(
                "layer {layer} of a {} model with {} layers has no {module}",
                spec.family, spec.n_layers
            );
            return Err(Error::BadDirections { why });
        }
        let weights = self.weights().layer(spec, layer)?;
        let linear = weights.linear(module);
        let base = linear.weight.of(model);
        let (n_out, n_in) = (base.n_out(), base.n_in());
        let mut dense = Mat::zeros(n_out, n_in);
        dense.for_rows(|o, row| row.iter_mut().enumerate().for_each(|(i, v)| *v = base.at(o, i)));
        let Some(update) = linear.low_rank(model) else { return Ok(dense) };
        let rank = update.a.n_out();
        let a: Vec<R> = (0..rank * n_in).map(|i| update.a.at(i / n_in, i % n_in)).collect();
        let b: Vec<R> = (0..n_out * rank).map(|i| update.b.at(i / rank, i % rank)).collect();
        let a = Packed::from_input_rows(MatRef::new(&a, rank, n_in));
        matmul(dense.view_mut(), MatRef::new(&b, n_out, rank), &a, Write::AddScaled(update.scale));
        if let Some(gain) = &update.gain {
            dense.for_rows(|o, row| row.iter_mut().for_each(|v| *v *= gain[o]));
        }
        Ok(dense)
    }
}
