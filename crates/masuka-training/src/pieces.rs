//! One batch in pieces of a few pictures, side by side, each on one thread from its beginning to its end: the products of
//! a small model are too short to be shared between threads. Pieces are the same for any number of threads, and are
//! added up in their order, so that the bits are the same, too.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;
use masuka_kernels::threads;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::Result;
use crate::gradients::{Batch, Gradients, Learner};

/// Pictures of a piece.
const PIECE: usize = 2;
/// Gradients are taken by recursion over a block's graph.
const STACK_BYTES: usize = 8 << 20;

/// Pieces of a batch of `pictures`.
pub(crate) fn count(pictures: usize) -> usize {
    pictures.div_ceil(PIECE)
}

/// Pictures of a batch of `pictures` whose gradients are taken at the same time.
pub(crate) fn at_once(pictures: usize) -> usize {
    pictures.min(PIECE * threads::count())
}

/// Does what [`Learner::learn`] does.
///
/// # Errors
/// As [`Learner::learn`].
pub fn learn(
    learner: &Learner<'_>,
    batch: &Batch,
    factor: f64,
    gradients: &mut Gradients,
    proceed: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f32>> {
    let pictures = batch.sigmas.len();
    if pictures <= PIECE || !batch.latents.device().is_cpu() {
        return learner.learn(batch, factor, gradients, proceed);
    }
    let pieces: Vec<_> = (0..pictures).step_by(PIECE).map(|at| PIECE.min(pictures - at)).collect();
    let learn_one = |index: usize| {
        let count = pieces[index];
        let piece = batch.narrow(index * PIECE, count)?;
        let mut gradients = Gradients::zeros(learner.adapter)?;
        let factor = factor * count as f64 / pictures as f64;
        let losses = learner.learn(&piece, factor, &mut gradients, proceed)?;
        Ok((losses, gradients))
    };
    let learned = side_by_side(pieces.len(), learn_one)?;
    let (losses, of_pieces): (Vec<_>, Vec<_>) =
        learned.into_iter().collect::<Result<Vec<_>>>()?.into_iter().unzip();
    gradients.add_all(&of_pieces)?;
    Ok(losses.concat())
}

/// The velocity that the model without the adapter predicts for pictures of `batch`, each (1, l, c); `None` for those
/// that `asked` leaves out.
///
/// # Errors
/// When the device fails.
pub fn velocities_of_base(
    learner: &Learner<'_>,
    batch: &Batch,
    asked: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    learner.adapter.detach();
    let predict = |index: usize| match asked[index] {
        true => Ok(Some(learner.velocity(&batch.narrow(index, 1)?)?)),
        false => Ok(None),
    };
    let predicted = match batch.latents.device().is_cpu() {
        true => side_by_side(asked.len(), predict),
        false => Ok((0..asked.len()).map(predict).collect()),
    };
    learner.adapter.attach();
    predicted?.into_iter().collect()
}

/// The results of `task(0)`, …, `task(tasks - 1)`, in this order.
fn side_by_side<R: Send>(
    tasks: usize,
    task: impl Fn(usize) -> Result<R> + Sync,
) -> Result<Vec<Result<R>>> {
    let results: Vec<_> = (0..tasks).map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(result) = results.get(index) else { break };
            let done = task(index);
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        }
    };
    let pools = pools(threads::count().min(tasks))?;
    std::thread::scope(|scope| {
        for pool in &pools {
            // Within a pool of one thread nothing is shared out.
            scope.spawn(|| pool.install(|| threads::alone(work)));
        }
    });
    Ok(results.into_iter().filter_map(|result| result.into_inner().ok().flatten()).collect())
}

fn pools(count: usize) -> Result<Vec<ThreadPool>> {
    let pool = || ThreadPoolBuilder::new().num_threads(1).stack_size(STACK_BYTES).build();
    let pools = (0..count).map(|_| pool()).collect::<Result<Vec<_>, _>>();
    Ok(pools.map_err(candle_core::Error::wrap)?)
}
