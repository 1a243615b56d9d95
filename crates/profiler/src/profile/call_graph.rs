//! Which functions execute the instructions: callgrind's profile as a tree of calls, for a flame graph.
//!
//! The format is that of "Callgrind Format Specification" (valgrind's manual): for each function its own cost, and for each pair
//! of caller and callee the cost of the calls with all that they call. It has no whole stacks: below a function with several
//! callers, the cost of its callees is divided among the callers in proportion to what each of them caused.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use tare_report::Frame;
use tare_report::report::Table;

use super::metric::Unit;
use super::render::units::shown;
use super::size::readable;

/// The most frames of a tree, so that a page with it stays small.
const FRAMES: usize = 250;
/// The most calls on top of each other.
const DEEPEST: usize = 48;
/// The smallest share of all instructions that a frame has; more where there would be too many frames.
const LEAST: f64 = 0.002;
/// Characters of a function's name.
const NAME: usize = 72;
/// Rows of the table.
const ROWS: usize = 20;

/// Costs of functions and of calls, in instructions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CallGraph {
    /// The functions with the instructions of their own.
    functions: Vec<(String, u64)>,
    /// By caller and callee, with all that the callee calls.
    calls: BTreeMap<(usize, usize), u64>,
}

impl CallGraph {
    /// Reads what callgrind wrote, between whatever else the server printed; the parts of several processes are added.
    pub(super) fn parse(text: &str) -> Self {
        let mut graph = Self::default();
        let mut known = HashMap::new();
        for part in text.split("# callgrind format").skip(1) {
            graph.add(part, &mut known);
        }
        graph
    }

    fn add(&mut self, part: &str, known: &mut HashMap<String, usize>) {
        // Names stand beside their numbers the first time: `fn=(5) main`, then `fn=(5)`.
        let mut numbered = HashMap::new();
        let mut named = |graph: &mut Self, text: &str| -> Option<usize> {
            let (number, name) = text.strip_prefix('(')?.split_once(')')?;
            if let Some(at) = numbered.get(number) {
                return Some(*at);
            }
            let at = graph.function(name.trim(), known);
            numbered.insert(number.to_owned(), at);
            Some(at)
        };
        let (mut function, mut callee, mut is_call) = (None, None, false);
        for line in part.lines() {
            if let Some(name) = line.strip_prefix("fn=") {
                function = named(self, name);
            } else if let Some(name) = line.strip_prefix("cfn=") {
                callee = named(self, name);
            } else if line.starts_with("calls=") {
                is_call = true;
            } else if let (Some(cost), Some(function)) = (cost(line), function) {
                match (std::mem::take(&mut is_call), callee) {
                    (false, _) => {
                        let own = &mut self.functions[function].1;
                        *own = own.saturating_add(cost);
                    }
                    // What a function that calls itself costs is in its own calls already.
                    (true, Some(callee)) if callee != function => {
                        let sum = self.calls.entry((function, callee)).or_default();
                        *sum = sum.saturating_add(cost);
                    }
                    (true, _) => {}
                }
            }
        }
    }

    /// The number of a function: all copies of a generic one are the same.
    fn function(&mut self, symbol: &str, known: &mut HashMap<String, usize>) -> usize {
        let name = match symbol.strip_prefix("0x") {
            Some(address) => format!("[0x{}]", address.trim_start_matches('0')),
            None => cut(&readable(symbol)),
        };
        *known.entry(name).or_insert_with_key(|name| {
            self.functions.push((name.clone(), 0));
            self.functions.len() - 1
        })
    }

    /// All instructions.
    pub(super) fn total(&self) -> u64 {
        self.functions.iter().map(|(_, own)| *own).fold(0, u64::saturating_add)
    }

    /// The share of instructions of functions that have a name.
    pub(super) fn named_share(&self) -> f64 {
        let named = self.functions.iter().filter(|(name, _)| !name.starts_with('['));
        let named = named.map(|(_, own)| *own).fold(0, u64::saturating_add);
        named as f64 / self.total().max(1) as f64
    }

    /// The functions with the most instructions of their own.
    pub(super) fn table(&self) -> Table {
        let mut functions: Vec<&(String, u64)> = self.functions.iter().filter(|(_, own)| *own > 0).collect();
        functions.sort_by(|(a, one), (b, other)| (other, a).cmp(&(one, b)));
        let total = self.total().max(1) as f64;
        let rows = functions.into_iter().take(ROWS).map(|(name, own)| {
            let share = shown(*own as f64 / total, Unit::Share);
            vec![name.clone(), shown(*own as f64, Unit::Count), share]
        });
        Table {
            title: "Functions with the most instructions of their own".to_owned(),
            columns: ["function", "instructions", "share"].map(str::to_owned).to_vec(),
            numeric: vec![1, 2],
            rows: rows.collect(),
        }
    }

    /// The calls as a tree, below one frame for all threads and processes.
    pub(super) fn tree(&self) -> Frame {
        let called: BTreeSet<usize> = self.calls.keys().map(|(_, callee)| *callee).collect();
        let mut callees: Vec<Vec<(usize, u64)>> = vec![Vec::new(); self.functions.len()];
        for ((caller, callee), cost) in &self.calls {
            callees[*caller].push((*callee, *cost));
        }
        // A server can print a profile of its own, whose calls cost anything.
        let total = self.total().max(1);
        let mut least = LEAST;
        loop {
            let least_of_all = least * total as f64;
            let tree = Tree { graph: self, callees: &callees, least: least_of_all, room: Cell::new(FRAMES) };
            let roots = (0..self.functions.len()).filter(|at| !called.contains(at));
            let roots = roots
                .map(|at| (at, tree.with_callees(at)))
                .filter(|(_, cost)| *cost >= tree.least)
                .take(FRAMES + 1);
            let mut frames: Vec<Frame> =
                roots.map(|(at, cost)| tree.frame(at, cost, &mut Vec::new())).collect();
            frames.sort_by(|a, b| (b.instructions, &a.function).cmp(&(a.instructions, &b.function)));
            if tree.room.get() > 0 {
                let sum = frames.iter().map(|frame| frame.instructions).fold(0, u64::saturating_add);
                let instructions = total.max(sum);
                return Frame { function: "all".to_owned(), instructions, callees: frames };
            }
            least *= 2.0;
        }
    }
}

struct Tree<'a> {
    graph: &'a CallGraph,
    callees: &'a [Vec<(usize, u64)>],
    /// Instructions below which there is no frame.
    least: f64,
    /// How many more frames there may be.
    room: Cell<usize>,
}

impl Tree<'_> {
    fn with_callees(&self, at: usize) -> f64 {
        let own = self.graph.functions[at].1;
        self.callees[at].iter().map(|(_, cost)| *cost).fold(own, u64::saturating_add) as f64
    }

    /// The function as it is called on this path, at this cost.
    fn frame(&self, at: usize, cost: f64, path: &mut Vec<usize>) -> Frame {
        self.room.set(self.room.get().saturating_sub(1));
        let share = cost / self.with_callees(at).max(1.0);
        let mut callees = Vec::new();
        path.push(at);
        for (callee, of_all) in &self.callees[at] {
            let cost = *of_all as f64 * share;
            // A function that is called again by what it calls is on the path already.
            let has_room = path.len() < DEEPEST && self.room.get() > 0;
            if cost >= self.least && !path.contains(callee) && has_room {
                callees.push(self.frame(*callee, cost, path));
            }
        }
        path.pop();
        callees.sort_by(|a, b| (b.instructions, &a.function).cmp(&(a.instructions, &b.function)));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a u64")]
        let instructions = cost as u64;
        Frame { function: self.graph.functions[at].0.clone(), instructions, callees }
    }
}

/// The cost of a line such as `16 400` or `+3 400`: a position, then the instructions.
fn cost(line: &str) -> Option<u64> {
    if !line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
        return None;
    }
    line.split(' ').nth(1)?.trim().parse().ok()
}

fn cut(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `main` calls `work` and `rest`, which calls `work` as well; `work` calls `leaf`, and itself.
    const OUTPUT: &str = "listening\n# callgrind format\nversion: 1\npositions: line\nevents: Ir\nsummary: 1000\n\n\
        ob=(1) /app\nfl=(1) ???\nfn=(1) main\n0 100\ncfn=(2) work\ncalls=3 0 \n0 600\ncfn=(3) rest\ncalls=1 0 \n0 300\n\n\
        fn=(3)\n0 100\ncfn=(2)\ncalls=1 0 \n* 200\n\n\
        fn=(2)\n+3 400\ncfn=(4) _ZN4itoa4leaf17hb17ca2ba7cc42da0E\ncalls=1 0 \n-2 400\ncfn=(2)\ncalls=1 0 \n0 50\n\n\
        fn=(4)\n0 400\n\ntotals: 1000\n==1== Collected : 1000\n";

    fn frame(function: &str, instructions: u64, callees: Vec<Frame>) -> Frame {
        Frame { function: function.to_owned(), instructions, callees }
    }

    #[test]
    fn callees_are_divided_among_callers_in_proportion() {
        let graph = CallGraph::parse(OUTPUT);
        assert_eq!((graph.total(), graph.named_share()), (1000, 1.0));
        let rest = frame("rest", 300, vec![frame("work", 200, vec![frame("itoa::leaf", 100, vec![])])]);
        let work = frame("work", 600, vec![frame("itoa::leaf", 300, vec![])]);
        let expected = frame("all", 1000, vec![frame("main", 1000, vec![work, rest])]);
        assert_eq!(graph.tree(), expected);
        let rows: Vec<Vec<String>> = graph.table().rows;
        assert_eq!(rows[0], ["itoa::leaf", "400", "40.0 %"]);
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn parts_of_several_processes_are_added() {
        let graph = CallGraph::parse(&OUTPUT.repeat(2));
        assert_eq!((graph.total(), graph.functions.len()), (2000, 4));
    }

    #[test]
    fn functions_that_call_each_other_end() {
        let graph = CallGraph::parse(
            "# callgrind format\nfn=(1) a\n0 10\ncfn=(2) b\ncalls=1 0\n0 90\n\nfn=(2)\n0 50\ncfn=(3) c\ncalls=9 0\n0 80\n\n\
             fn=(3)\n0 40\ncfn=(2)\ncalls=8 0\n0 70\n",
        );
        let tree = graph.tree();
        assert_eq!((tree.instructions, tree.count()), (100, 4));
    }

    #[test]
    fn a_program_without_symbols_has_no_names() {
        let graph = CallGraph::parse("# callgrind format\nfn=(1) 0x0000000000032e50\n0 10\n\nfn=(2) ???\n");
        assert_eq!((graph.functions[0].0.as_str(), graph.named_share()), ("[0x32e50]", 0.0));
        for nothing in ["", "fn=(1) a\n0 5\n", "# callgrind format\nfn=1\n0 5\ncfn=\ncalls=\nx y\n0\n0 x\n"] {
            let graph = CallGraph::parse(nothing);
            assert_eq!((graph.total(), graph.tree().callees), (0, vec![]), "{nothing}");
        }
    }

    #[test]
    fn a_made_up_profile_takes_no_time() {
        for own in [0, 1] {
            let mut text = "# callgrind format\n".to_owned();
            for at in 0..60 {
                text += &format!("fn=({at}) f{at}\n0 {own}\n");
                for callee in at + 1..60 {
                    text += &format!("cfn=({callee}) f{callee}\ncalls=1 0\n0 {}\n", u64::MAX);
                }
            }
            let tree = CallGraph::parse(&text).tree();
            assert!(tree.count() <= FRAMES && tree.instructions > 0);
        }
    }

    #[test]
    fn a_tree_of_many_functions_is_bounded() {
        let mut text = "# callgrind format\nfn=(0) main\n0 1\n".to_owned();
        for at in 1..3000 {
            text += &format!("cfn=({at}) f{at}{}\ncalls=1 0\n0 {}\n", "x".repeat(200), at % 7 + 100);
        }
        for at in 1..3000 {
            text += &format!("\nfn=({at})\n0 {}\n", at % 7 + 100);
        }
        assert!(CallGraph::parse(&text).tree().count() <= FRAMES);
    }
}
