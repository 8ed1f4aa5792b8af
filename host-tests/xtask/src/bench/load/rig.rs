//! The loop that drives clients and upstream.

use super::client::{Client, Progress};
use super::upstream::{Answer, Served};
use super::{Accept, LoadError, Outcome, Pace, Plan, READ_BYTES, Until};
use crate::signals::Interrupt;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const LISTENER: Token = Token(0);
/// Clients have the tokens from here on, upstream connections those before.
const FIRST_CLIENT: usize = 1 << 20;
const EVENTS_AT_ONCE: usize = 256;
/// How long the loop sleeps while it has nothing to do but wait for answers.
const SLEEP: Duration = Duration::from_millis(50);
/// Who says nothing for so long never will.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The upstream, and clients for one measurement at a time.
pub struct Rig {
    poll: Poll,
    listener: TcpListener,
    address: SocketAddr,
    answer: Answer,
    served: BTreeMap<usize, Served>,
    next_served: usize,
    /// When each event of the stream that goes out was written.
    events_sent: Vec<Instant>,
    buffer: Vec<u8>,
    /// The number of the next request: no two of a run are the same.
    serial: u64,
    interrupt: Interrupt,
    /// Requests that have reached the upstream.
    served_total: u64,
}

/// The state of one measurement.
struct Run<'a> {
    plan: &'a mut Plan,
    clients: Vec<Client>,
    idle: VecDeque<usize>,
    started: Instant,
    /// When the first request that counts was to be sent.
    counting_since: Instant,
    last_answer: Instant,
    sent: u64,
    answered: u64,
    outcome: Outcome,
}

impl Rig {
    /// An upstream on a free port.
    pub fn start(answer: Answer, interrupt: &Interrupt) -> io::Result<Rig> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = listener.local_addr()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Rig {
            poll,
            listener,
            address,
            answer,
            served: BTreeMap::new(),
            next_served: LISTENER.0 + 1,
            events_sent: Vec::new(),
            buffer: vec![0; READ_BYTES],
            serial: 0,
            interrupt: interrupt.clone(),
            served_total: 0,
        })
    }

    /// Where the upstream listens. It answers while a measurement runs.
    pub fn upstream(&self) -> SocketAddr {
        self.address
    }

    /// How many requests have reached the upstream so far.
    pub fn served_total(&self) -> u64 {
        self.served_total
    }

    /// What the upstream says from now on.
    pub fn answer_with(&mut self, answer: Answer) {
        self.answer = answer;
    }

    /// Measures.
    pub fn run(&mut self, mut plan: Plan) -> Result<Outcome, LoadError> {
        let now = Instant::now();
        let mut run = Run {
            clients: Vec::with_capacity(plan.load.connections),
            idle: (0..plan.load.connections).collect(),
            started: now,
            counting_since: now,
            last_answer: now,
            sent: 0,
            answered: 0,
            outcome: Outcome::default(),
            plan: &mut plan,
        };
        for index in 0..run.plan.load.connections {
            run.clients.push(self.connect(run.plan.target, index)?);
        }
        let mut events = Events::with_capacity(EVENTS_AT_ONCE);
        loop {
            self.send_what_is_due(&mut run)?;
            if run.sent == run.answered && run.is_over(Instant::now()) {
                break;
            }
            self.turn(&mut run, &mut events)?;
            self.interrupt.check().map_err(LoadError::Stopped)?;
            if run.sent > run.answered && run.last_answer.elapsed() > SILENCE_MAX {
                return Err(LoadError::Silent(SILENCE_MAX));
            }
        }
        let mut outcome = run.outcome;
        outcome.sent = run.sent;
        outcome.elapsed = run.last_answer - run.counting_since;
        outcome.latencies_us.sort_by(f64::total_cmp);
        Ok(outcome)
    }

    fn connect(&self, target: SocketAddr, index: usize) -> io::Result<Client> {
        // The handshake of the loopback takes microseconds: only what comes after must not block.
        let stream = std::net::TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut client = Client::new(TcpStream::from_std(stream));
        let both = Interest::READABLE | Interest::WRITABLE;
        let token = Token(FIRST_CLIENT + index);
        self.poll
            .registry()
            .register(&mut client.stream, token, both)?;
        Ok(client)
    }

    fn send_what_is_due(&mut self, run: &mut Run<'_>) -> Result<(), LoadError> {
        loop {
            let now = Instant::now();
            let Some(intended) = run.next_due(now) else {
                return Ok(());
            };
            let Some(index) = run.idle.pop_front() else {
                return Ok(());
            };
            if run.sent == run.plan.load.warm_up {
                run.counting_since = intended;
            }
            self.serial += 1;
            let number = run.sent;
            run.sent += 1;
            if run.clients[index].is_closed() {
                run.clients[index] = self.connect(run.plan.target, index)?;
            }
            let bytes = run.plan.request.bytes(self.serial);
            run.clients[index].send(bytes, intended, number)?;
        }
    }

    /// Waits for something to happen, and handles all that has.
    fn turn(&mut self, run: &mut Run<'_>, events: &mut Events) -> Result<(), LoadError> {
        let streaming = self.served.values().any(Served::is_streaming);
        // To sleep until a microsecond is not to be had: a constant rate spins instead.
        let spin = streaming || matches!(run.plan.load.pace, Pace::PerSecond(_));
        let wait = if spin { Duration::ZERO } else { SLEEP };
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in events.iter() {
            match event.token() {
                LISTENER => self.accept()?,
                Token(token) if token >= FIRST_CLIENT => {
                    self.read_answer(run, token - FIRST_CLIENT)?;
                }
                Token(token) => self.serve(token)?,
            }
        }
        if streaming {
            self.stream_on()?;
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), LoadError> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nodelay(true)?;
            let token = self.next_served;
            self.next_served = token + 1;
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, Token(token), both)?;
            self.served.insert(token, Served::new(stream));
        }
    }

    fn serve(&mut self, token: usize) -> Result<(), LoadError> {
        let Some(served) = self.served.get_mut(&token) else {
            return Ok(());
        };
        let answered = served.on_ready(&self.answer, &mut self.buffer)?;
        self.served_total += answered.requests;
        if answered.closed {
            self.served.remove(&token);
        }
        Ok(())
    }

    fn stream_on(&mut self) -> Result<(), LoadError> {
        let mut closed = Vec::new();
        for (token, served) in &mut self.served {
            if served.is_streaming() && !served.on_time(&self.answer, &mut self.events_sent)? {
                closed.push(*token);
            }
        }
        closed
            .iter()
            .for_each(|token| drop(self.served.remove(token)));
        Ok(())
    }

    fn read_answer(&mut self, run: &mut Run<'_>, index: usize) -> Result<(), LoadError> {
        let (sent, latencies) = (&self.events_sent, &mut run.outcome.event_latencies_us);
        let client = &mut run.clients[index];
        let progress = client.on_ready(&mut self.buffer, |event| {
            if let Some(sent) = sent.get(event) {
                latencies.push(sent.elapsed().as_secs_f64() * 1e6);
            }
        })?;
        match progress {
            Progress::Waiting => Ok(()),
            Progress::Answered {
                intended,
                index: number,
                status,
            } => run.note(index, intended, number, status),
            Progress::Closed if client.is_idle() => Ok(()),
            Progress::Closed => Err(LoadError::Closed),
        }
    }
}

impl Run<'_> {
    /// When the next request is to be sent, if that is not later than `now`.
    fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.is_over(now) {
            return None;
        }
        match self.plan.load.pace {
            Pace::Closed => Some(now),
            Pace::PerSecond(rate) => {
                let due = self.started + Duration::from_secs_f64(self.sent as f64 / rate);
                (due <= now).then_some(due)
            }
        }
    }

    /// Whether nothing more is to be sent.
    fn is_over(&self, now: Instant) -> bool {
        match self.plan.load.until {
            Until::Requests(count) => self.sent >= self.plan.load.warm_up + count,
            Until::Elapsed(time) => {
                self.sent > self.plan.load.warm_up && now >= self.counting_since + time
            }
        }
    }

    fn note(
        &mut self,
        index: usize,
        intended: Instant,
        number: u64,
        status: u16,
    ) -> Result<(), LoadError> {
        self.last_answer = Instant::now();
        self.answered += 1;
        self.idle.push_back(index);
        if number >= self.plan.load.warm_up {
            self.outcome.answered += 1;
            let latency = self.last_answer - intended;
            self.outcome.latencies_us.push(latency.as_secs_f64() * 1e6);
        }
        if status != 200 && self.plan.load.accept == Accept::Ok {
            let (_, body) = self.clients[index].answer();
            return Err(LoadError::Status { status, body });
        }
        if self.answered == self.sent {
            self.outcome.last_answer = self.clients[index].answer();
        }
        Ok(())
    }
}
