// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random operations of two partitions that share, against a model of what each piece has.

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Enter,
    Remove,
    Store(u64),
    Load,
    Write(u64),
    Read,
    Zero,
    Copy(u64),
    Protect,
    StartOver,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => Just(Op::Enter),
        1 => Just(Op::Remove),
        6 => any::<u64>().prop_map(Op::Store),
        6 => Just(Op::Load),
        2 => any::<u64>().prop_map(Op::Write),
        2 => Just(Op::Read),
        1 => Just(Op::Zero),
        2 => (0..PIECES).prop_map(Op::Copy),
        1 => Just(Op::Protect),
        1 => prop_oneof![9 => Just(Op::Load), 1 => Just(Op::StartOver)],
    ]
}

const PIECES: u64 = 7;
const OFFSETS: [u64; 3] = [0, 0x1008, PIECE - 8];

/// What a piece has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing yet.
    Zero,
    /// The image's content, and no frame yet.
    Image,
    /// The image's frame.
    Shared,
    Own,
}

/// A partition of the model: what it holds, of which pieces it has frames, what it has entered.
struct Model {
    guaranteed: u64,
    limit: u64,
    values: BTreeMap<(u64, u64), u64>,
    states: Vec<State>,
    entries: Vec<Option<u64>>,
}

impl Model {
    fn new((guaranteed, limit): (u64, u64)) -> Self {
        let image = |piece: &u64| (IMAGE_AT..IMAGE_AT + IMAGE).contains(piece);
        let mut values = BTreeMap::new();
        for piece in (0..PIECES).filter(image) {
            for offset in OFFSETS {
                values.insert((piece, offset), of_image(piece - IMAGE_AT, offset));
            }
        }
        let state = |piece| {
            if image(&piece) {
                State::Image
            } else {
                State::Zero
            }
        };
        Self {
            guaranteed,
            limit,
            values,
            states: (0..PIECES).map(state).collect(),
            entries: (0..PIECES).map(|_| None).collect(),
        }
    }

    fn get(&self, piece: u64, offset: u64) -> u64 {
        self.values.get(&(piece, offset)).copied().unwrap_or(0)
    }

    fn count(&self, state: State) -> u64 {
        self.states.iter().filter(|other| **other == state).count() as u64
    }

    fn used(&self) -> u64 {
        self.count(State::Own)
    }

    fn promised(&self) -> u64 {
        self.guaranteed.saturating_sub(self.used())
    }
}

const FRAMES: u64 = IMAGE + 8;

/// Frames that the image has.
fn resident(models: &[Model; 2]) -> u64 {
    let states = models[0].states.iter().zip(&models[1].states);
    states
        .filter(|(a, b)| **a == State::Shared || **b == State::Shared)
        .count() as u64
}

fn free(models: &[Model; 2]) -> u64 {
    FRAMES - models[0].used() - models[1].used() - resident(models)
}

fn is_any_free(models: &[Model; 2]) -> bool {
    free(models) > models[0].promised() + models[1].promised()
}

/// Whether a partition can have a frame more.
fn can_take(models: &[Model; 2], who: usize) -> bool {
    let model = &models[who];
    model.used() < model.limit && (model.promised() > 0 || is_any_free(models))
}

/// What a piece becomes by a store, if it can.
fn written(models: &[Model; 2], who: usize, n: usize) -> Option<State> {
    let model = &models[who];
    let can = match model.states[n] {
        State::Own => true,
        State::Shared if models[1 - who].states[n] != State::Shared => model.used() < model.limit,
        _ => can_take(models, who),
    };
    can.then_some(State::Own)
}

/// What a piece becomes by a load of the guest, if it can.
fn loaded(models: &[Model; 2], who: usize, n: usize) -> Option<State> {
    match models[who].states[n] {
        State::Zero => can_take(models, who).then_some(State::Own),
        State::Image if models[1 - who].states[n] == State::Shared || is_any_free(models) => {
            Some(State::Shared)
        }
        State::Image => (models[who].promised() > 0).then_some(State::Own),
        state => Some(state),
    }
}

proptest! {
    #![proptest_config(config())]

    /// Random guests, two in one pool that is too small for both, against a naive model: no store of
    /// one is ever seen by the other, nothing is lost where there is no frame, and the counts balance.
    #[test]
    fn partitions_that_share_agree_with_a_model(
        steps in proptest::collection::vec((0..2_usize, 0..PIECES, 0..3_usize, op()), 1..steps(120)),
    ) {
        let accounts = [(3, 10), (2, 8)];
        let (mut p, mut allocator, _host) = partitions(FRAMES, &accounts);
        let mut models = accounts.map(Model::new);
        for (who, piece, which, op) in steps {
            let n = usize::try_from(piece).unwrap();
            let offset = OFFSETS[which];
            let (written, loaded) = (written(&models, who, n), loaded(&models, who, n));
            let (p, model) = (&p[who], &mut models[who]);
            match op {
                Op::Enter if model.entries[n].is_none() => {
                    model.entries[n] = Some(p.enter(piece));
                }
                Op::Remove => {
                    if let Some(ptex) = model.entries[n].take() {
                        p.h_remove(0, ptex, 0).unwrap();
                    }
                }
                Op::Store(value) => if let Some(ptex) = model.entries[n] {
                    let done = p.store(piece, ptex, offset, value);
                    if let Some(state) = written {
                        prop_assert_eq!(done, Ok(()));
                        model.states[n] = state;
                        model.values.insert((piece, offset), value);
                    } else {
                        prop_assert_eq!(done, Err(FaultAction::NoFrame));
                    }
                },
                Op::Load => if let Some(ptex) = model.entries[n] {
                    let value = p.load(piece, ptex, offset);
                    if let Some(state) = loaded {
                        prop_assert_eq!(value, Ok(model.get(piece, offset)));
                        model.states[n] = state;
                    } else {
                        prop_assert_eq!(value, Err(FaultAction::NoFrame));
                    }
                },
                Op::Write(_) | Op::Zero | Op::Copy(_) => {
                    let page = piece * PIECE + (offset & !0xfff);
                    let (done, value) = match op {
                        Op::Write(value) => {
                            let bytes = value.to_be_bytes();
                            (p.memory().write(at(piece, offset), &bytes).is_ok(), value)
                        }
                        Op::Copy(from) => {
                            let source = from * PIECE + (offset & !0xfff);
                            let done = p.h_page_init(flags::COPY_PAGE, page, source);
                            (done.is_ok(), model.get(from, offset))
                        }
                        _ => (p.h_page_init(flags::ZERO_PAGE, page, 0).is_ok(), 0),
                    };
                    prop_assert_eq!(done, written.is_some());
                    if let Some(state) = written {
                        model.states[n] = state;
                        model.values.insert((piece, offset), value);
                    }
                }
                Op::Protect => {
                    let _ = p.protect(SlotId::MEMORY, piece * PIECE, PIECE).flush();
                }
                Op::StartOver => {
                    p.clear_all();
                    prop_assert_eq!(p.map_image(p.image, IMAGE_AT..), Some(IMAGE));
                    *model = Model::new(accounts[who]);
                }
                Op::Enter | Op::Read => {}
            }
            for (p, model) in [(&p.mmu, &models[who])] {
                for piece in 0..PIECES {
                    for offset in OFFSETS {
                        let value = p.memory().read_be64(at(piece, offset));
                        prop_assert_eq!(value, Ok(model.get(piece, offset)));
                    }
                }
            }
            let counts = p.share.pool().counts();
            prop_assert_eq!(counts.free, free(&models));
            prop_assert_eq!(counts.images, resident(&models));
            prop_assert_eq!(counts.promised, models[0].promised() + models[1].promised());
        }
        for (p, model) in p.iter().zip(&models) {
            p.check_counts();
            prop_assert_eq!(p.share.counts().used, model.used() * PIECE);
            prop_assert_eq!(p.share.counts().shared, model.count(State::Shared) * PIECE);
            for piece in 0..PIECES {
                for offset in OFFSETS {
                    let value = p.memory().read_be64(at(piece, offset));
                    prop_assert_eq!(value, Ok(model.get(piece, offset)));
                }
            }
        }
        let pool = p[0].share.pool();
        while let Some(Partition { mmu, .. }) = p.pop() {
            mmu.destroy(&mut allocator).unwrap();
        }
        let counts = pool.counts();
        prop_assert_eq!((counts.free, counts.images, counts.mapped), (FRAMES, 0, 0));
        prop_assert_eq!(counts.promised, 5);
    }
}
