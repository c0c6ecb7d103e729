//! A program that judges samples: for each rollout it gets one .npy of the first component on its standard input and
//! answers on its standard output with one .npy of rewards [samples] or [samples, rewards], NaN where it has none, and
//! with `"gradient": true` a second one of the gradient, shaped as the samples. It stays for the whole tuning. One that
//! dies, says something else or takes longer than its time is ended, with all it started, and the tuning fails with what
//! happened.

use super::super::npy;
use diffx::base::{Result, Status};
use diffx::mem::{Budget, Tensor};
use diffx::weights::convert;
use diffx::{bail, fail};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Longest header, and longest answer, that is read.
const MOST_HEAD: usize = 1 << 16;
const MOST_ANSWER: usize = 1 << 31;

/// Where an array begins: magic, version, length of the header.
const START: usize = 10;

pub(in super::super) struct Program {
    child: Child,
    /// It was ended, and its number may be another's.
    is_over: bool,
    name: String,
    timeout: Duration,
    gradient: bool,
    /// To the thread that writes: a child that does not read must not stop us.
    questions: Sender<Vec<u8>>,
    answers: Receiver<Result<Vec<u8>>>,
}

impl Program {
    pub(super) fn start(words: &[String], timeout: Duration, gradient: bool) -> Result<Self> {
        let Some((program, arguments)) = words.split_first() else {
            bail!(Format, "reward process: command is missing, want a list of texts");
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // with what it starts, to be ended together
            .spawn()
            .map_err(|e| fail!(Io, "reward process {program}: {e}"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!(Internal, "reward process {program}: no pipes");
        };
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        std::thread::spawn(move || write_all(stdin, &asked));
        std::thread::spawn(move || {
            let mut from = stdout;
            loop {
                let one = array(&mut from);
                let failed = one.is_err();
                if answer.send(one).is_err() || failed {
                    return;
                }
            }
        });
        let name = program.clone();
        Ok(Self { child, is_over: false, name, timeout, gradient, questions, answers })
    }

    /// Rewards row by row, and the gradient where it is wanted.
    pub(super) fn ask(
        &mut self,
        samples: &Tensor,
        gradient: bool,
        budget: &Arc<Budget>,
    ) -> Result<(Vec<f64>, Option<Tensor>)> {
        if gradient && !self.gradient {
            bail!(
                Unsupported,
                "this objective wants the gradient of the reward: say \"gradient\": true of a process that gives it"
            );
        }
        let n = samples.dims().first().copied().unwrap_or(0);
        let deadline = Instant::now() + self.timeout;
        // a thread that has ended has seen the pipe close; the answer says what of
        let _ = self.questions.send(npy::encode(samples)?);
        let values = self.next(deadline, budget)?;
        if values.dims().first() != Some(&n) || values.dims().len() > 2 {
            let got = values.desc();
            return Err(self.end(&format!("answered {got}, want [{n}] or [{n}, rewards]")));
        }
        let grad = match self.gradient {
            true => Some(self.next(deadline, budget)?),
            false => None,
        };
        if let Some(g) = grad.as_ref().filter(|g| g.dims() != samples.dims()) {
            let (got, want) = (g.desc(), samples.desc());
            return Err(self.end(&format!("answered a gradient of {got}, want {want}")));
        }
        let grad = grad.map(|g| convert::convert(g, samples.desc().dtype, budget)).transpose()?;
        Ok((convert::to_f64(&values)?, grad))
    }

    fn next(&mut self, deadline: Instant, budget: &Arc<Budget>) -> Result<Tensor> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.answers.recv_timeout(left) {
            Ok(Ok(bytes)) => npy::decode(&bytes, budget).map_err(|e| self.end(&e.message)),
            Ok(Err(e)) if e.status == Status::Format => Err(self.end(&e.message)),
            Ok(Err(e)) => {
                // one that died is told by how, one that lives by what it said
                let ended = self.child.wait_timeout(Duration::from_millis(500));
                let why = ended.map_or(e.message, |how| format!("ended ({how})"));
                Err(self.end(&why))
            }
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.timeout.as_secs_f64();
                Err(self.end(&format!("gave no answer within {seconds} s")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.end("closed its output")),
        }
    }

    /// Ends the program, and all that it started and that did not leave its group.
    fn end(&mut self, why: &str) -> diffx::base::Error {
        self.stop();
        fail!(Io, "reward process {}: {why}", self.name)
    }

    fn stop(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        if let Ok(group) = libc::pid_t::try_from(self.child.id())
            && group > 1
        {
            // Safety: a signal; the group is the child's own, see `start`.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        let _ = self.child.kill(); // it may be gone already
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop();
    }
}

trait WaitTimeout {
    /// How it ended, if it did within that time.
    fn wait_timeout(&mut self, time: Duration) -> Option<std::process::ExitStatus>;
}

impl WaitTimeout for Child {
    fn wait_timeout(&mut self, time: Duration) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + time;
        loop {
            if let Ok(Some(status)) = self.try_wait() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Writes what is asked until nobody asks or nobody reads.
fn write_all(mut to: ChildStdin, asked: &Receiver<Vec<u8>>) {
    for question in asked.iter() {
        if to.write_all(&question).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

/// The bytes of the next array of a stream.
fn array(from: &mut dyn Read) -> Result<Vec<u8>> {
    let closed = |e: std::io::Error| fail!(Io, "its output broke off: {e}");
    let mut bytes = vec![0; START];
    from.read_exact(&mut bytes).map_err(closed)?;
    if !bytes.starts_with(b"\x93NUMPY\x01\x00") {
        bail!(Format, "said something that is no .npy of version 1");
    }
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]])); // START bytes were read
    if length > MOST_HEAD {
        bail!(Format, "a header of {length} bytes");
    }
    bytes.resize(START + length, 0);
    from.read_exact(&mut bytes[START..]).map_err(closed)?;
    let size = npy::data_bytes(&bytes)?;
    if size > MOST_ANSWER {
        bail!(Format, "an array of {size} bytes, want at most {MOST_ANSWER}");
    }
    let at = bytes.len();
    bytes.resize(at + size, 0);
    from.read_exact(&mut bytes[at..]).map_err(closed)?;
    Ok(bytes)
}
