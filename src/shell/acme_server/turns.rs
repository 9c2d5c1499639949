//! Turns at something that costs the same for one as for all who want it: a flush.

use core::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// One turn at a time, each for everybody who asked before it began.
///
/// Without the numbers each of those in the queue would take a turn of its own, for the little that whoever came last
/// brought: one flush after the other.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whoever asks gets the next number.
    asked: AtomicU64,
    /// The last number for which a turn came to a good end.
    done_to: Mutex<u64>,
}

impl Turns {
    /// Ends after a good turn that began later than this call: with `work`, or with that of somebody before in the queue; or
    /// when no turn is under way and `idle` says that there is nothing to do.
    ///
    /// # Errors
    /// Those of `work`. A turn that failed counts for nobody: the next in the queue takes one.
    pub(super) async fn take<E>(
        &self,
        idle: impl FnOnce() -> bool,
        work: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let own = self.asked.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let mut done_to = self.done_to.lock().await;
        if *done_to >= own || idle() {
            return Ok(());
        }
        // Before the work begins: what these want is there already.
        let all = self.asked.load(Ordering::Acquire);
        work.await?;
        *done_to = all;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;
    use tokio::task::{JoinSet, yield_now};

    use super::*;

    /// How many turns 64 take of whom the first is held up until all have asked; the first so many turns fail.
    async fn turns(failing: u64) -> (u64, usize) {
        let (turns, gate, taken) =
            (Arc::new(Turns::default()), Arc::new(Semaphore::new(0)), Arc::<AtomicU64>::default());
        let mut all = JoinSet::new();
        for _ in 0..64 {
            let (turns, gate, taken) = (turns.clone(), gate.clone(), taken.clone());
            all.spawn(async move {
                let work = async {
                    let number = taken.fetch_add(1, Ordering::Relaxed);
                    gate.acquire().await.unwrap().forget();
                    if number < failing { Err(()) } else { Ok(()) }
                };
                turns.take(|| false, work).await
            });
        }
        while turns.asked.load(Ordering::Relaxed) < 64 {
            yield_now().await;
        }
        gate.add_permits(64);
        let good = all.join_all().await.into_iter().filter(Result::is_ok).count();
        (taken.load(Ordering::Relaxed), good)
    }

    #[tokio::test]
    async fn whoever_waits_for_a_turn_goes_with_the_next_one() {
        assert_eq!(turns(0).await, (2, 64));
    }

    #[tokio::test]
    async fn a_turn_that_failed_counts_for_nobody() {
        assert_eq!(turns(3).await, (4, 61));
    }

    #[tokio::test]
    async fn whoever_asks_later_gets_a_later_turn() {
        let (turns, taken) = (Turns::default(), AtomicU64::default());
        for _ in 0..3 {
            let work = async {
                taken.fetch_add(1, Ordering::Relaxed);
                Ok::<(), ()>(())
            };
            assert_eq!(turns.take(|| false, work).await, Ok(()));
        }
        assert_eq!(taken.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn whoever_has_nothing_to_do_waits_for_the_turn_under_way_and_takes_none() {
        let (turns, gate) = (Arc::new(Turns::default()), Arc::new(Semaphore::new(0)));
        let (first, opened) = (turns.clone(), gate.clone());
        let first = tokio::spawn(async move {
            first
                .take(|| false, async {
                    opened.acquire().await.unwrap().forget();
                    Ok::<(), ()>(())
                })
                .await
        });
        while turns.done_to.try_lock().is_ok() {
            yield_now().await;
        }
        let mut second = Box::pin(turns.take(|| true, async { Err(()) }));
        assert!(futures_util::poll!(&mut second).is_pending(), "what it looked at may be in that turn");
        gate.add_permits(1);
        assert_eq!((first.await.unwrap(), second.await), (Ok(()), Ok(())));
    }
}
