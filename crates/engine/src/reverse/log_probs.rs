//! From log-probabilities back to the normalised states that were read, and to the output matrix that read them.

use super::attention::add_transposed_product;
use crate::error::{Error, Result};
use crate::mat::Mat;
use crate::model::Model;
use crate::number::Number;
use crate::unembed::{BLOCK, States, n_blocks};
use lorascope_kernels::{MatMut, Packed, Write, matmul, matmul_transposed, softcap_backward};

impl<R: Number> Model<R> {
    /// The derivative, with respect to each normalised state, of `Σ_j weights[row][j] · log p(tokens[row][j])`, soft cap
    /// included: `[rows, d_model]`. In a row whose weights sum to 0 (a difference of logits) the normaliser cancels.
    ///
    /// # Errors
    /// As [`Model::next_tokens`]; weights of another shape than the states' tokens.
    pub fn log_probs_backward(&self, states: &States<R>, weights: &[Vec<f64>]) -> Result<Mat<R>> {
        // Where all normalisers cancel nobody needs them.
        let cancel = weights.iter().all(|w| w.iter().sum::<f64>() == 0.0);
        let normalizers = match cancel {
            true => vec![0.0; states.normalized.rows],
            false => self.next_tokens(states)?.iter().map(|next| next.log_sum_exp).collect(),
        };
        self.log_probs_backward_with(states, &normalizers, weights)
    }

    /// [`Model::log_probs_backward`] for who knows the normalisers already: [`NextToken::log_sum_exp`](crate::NextToken) of each row.
    /// It spares a product with the whole output matrix.
    ///
    /// # Errors
    /// As there; a number of normalisers that is not that of the rows.
    pub fn log_probs_backward_with(
        &self,
        states: &States<R>,
        normalizers: &[f64],
        weights: &[Vec<f64>],
    ) -> Result<Mat<R>> {
        let mut out = Mat::zeros(states.normalized.rows, states.normalized.cols);
        R::logit_gradients(self, states, normalizers, weights, &mut |_, packed, gradient| {
            matmul_transposed(out.view_mut(), gradient.view(), packed, Write::AddScaled(R::ONE));
        })?;
        Ok(out)
    }

    /// The derivative, with respect to each normalised state, of `Σ_j weights[row][j] · logit(tokens[row][j])`, soft cap included:
    /// [`Model::log_probs_backward`] without the normaliser.
    ///
    /// # Errors
    /// As there.
    pub fn logits_backward(&self, states: &States<R>, weights: &[Vec<f64>]) -> Result<Mat<R>> {
        // e^(logit − ∞) = 0: no token shares in a normaliser.
        let none = vec![f64::INFINITY; states.normalized.rows];
        self.log_probs_backward_with(states, &none, weights)
    }

    /// [`Model::log_probs_backward_with`], and the derivative with respect to the output matrix, `[V, d_model]`. Where that is the
    /// embedding too, it is the share of [`Parameter::Embedding`](crate::Parameter)'s gradient that comes from the output.
    ///
    /// # Errors
    /// As there.
    pub fn log_probs_backward_to_output(
        &self,
        states: &States<R>,
        normalizers: &[f64],
        weights: &[Vec<f64>],
    ) -> Result<(Mat<R>, Mat<R>)> {
        let d_model = states.normalized.cols;
        let mut to_states = Mat::zeros(states.normalized.rows, d_model);
        let mut to_output = Mat::zeros(self.spec().d_vocab, d_model);
        R::logit_gradients(self, states, normalizers, weights, &mut |first, packed, gradient| {
            matmul_transposed(to_states.view_mut(), gradient.view(), packed, Write::AddScaled(R::ONE));
            let part = &mut to_output.data[first * d_model..(first + packed.n_out()) * d_model];
            let part = MatMut::new(part, packed.n_out(), d_model);
            add_transposed_product(part, gradient.view(), states.normalized.view());
        })?;
        Ok((to_states, to_output))
    }
}

/// Takes a block of the vocabulary: its first token, its part of the output matrix, a gradient of its logits.
pub type TakeBlock<'t, R> = &'t mut dyn FnMut(usize, &Packed<R>, &Mat<R>);

/// Gives `take`, for each block of the vocabulary that matters, its first token, its part of the output matrix, and the derivative
/// with respect to its logits before the soft cap, `[rows, block]`.
pub(crate) fn logit_gradients<R: Number>(
    model: &Model<R>,
    states: &States<R>,
    normalizers: &[f64],
    weights: &[Vec<f64>],
    take: TakeBlock<R>,
) -> Result<()> {
    model.check_states(states)?;
    let fits = normalizers.len() == states.normalized.rows
        && weights.len() == states.tokens.len()
        && weights.iter().zip(&states.tokens).all(|(w, t)| w.len() == t.len());
    if !fits {
        let why = "weights and normalisers do not have the shape of the tokens".to_owned();
        return Err(Error::BadStates { why });
    }
    let (rows, d_vocab) = (states.normalized.rows, model.spec().d_vocab);
    let totals: Vec<f64> = weights.iter().map(|w| w.iter().sum()).collect();
    for block in 0..n_blocks(d_vocab) {
        let first = block * BLOCK;
        let packed = model.output_block(states.model, block)?;
        let inside = |t: u32| (first..first + packed.n_out()).contains(&(t as usize));
        if totals.iter().all(|&t| t == 0.0) && !states.tokens.iter().flatten().any(|&t| inside(t)) {
            continue;
        }
        let mut logits = Mat::zeros(rows, packed.n_out());
        matmul(logits.view_mut(), states.normalized.view(), &packed, Write::Set);
        model.cap(states.model, &mut logits)?;
        let mut gradient = Mat::zeros(rows, packed.n_out());
        gradient.for_rows(|row, values| {
            if totals[row] != 0.0 {
                let shift = normalizers[row];
                for (g, u) in values.iter_mut().zip(logits.row(row)) {
                    *g = R::from_f64(-totals[row] * (u.to_f64() - shift).exp());
                }
            }
            for (&token, &weight) in states.tokens[row].iter().zip(&weights[row]) {
                if inside(token) {
                    values[token as usize - first] += R::from_f64(weight);
                }
            }
            if let Some(cap) = model.spec().final_softcap {
                softcap_backward(logits.row(row), R::from_f64(cap), values);
            }
        });
        take(first, &packed, &gradient);
    }
    Ok(())
}
