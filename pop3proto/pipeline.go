package pop3proto

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"time"
)

const (
	// maxCommandOctets limits the unanswered commands. Sockets buffer more than
	// that, so writing them never waits for a server that is itself waiting for
	// its replies to be read.
	maxCommandOctets = 4 << 10
	// maxDeleteOctets is the limit for DELE: our own socket alone buffers as much.
	// For other commands a higher limit gains nothing.
	maxDeleteOctets = 16 << 10
)

// pipeline sends commands of one verb before the replies to earlier ones have been
// read (RFC 2449 §6.6), and tells which reply comes next: replies arrive in the order
// of the commands. Without PIPELINING its window is a single command.
//
// For each entry, the user calls next, then readStatus, and for RETR and TOP reads
// the body. After the last one comes the reply to the trailer, if there is one.
type pipeline struct {
	c         *Client
	verb      string
	format    func(Entry) string // returns the command line, without CRLF
	maxOctets int64              // limits commandOctets
	trailer   string             // a command to send after the last one; may be empty
	addSTAT   bool               // make STAT the trailer if any command is sent

	pull      func() (Entry, bool) // returns the next entry to send a command for
	held      *request             // pulled, but beyond a limit
	exhausted bool                 // pull has no more entries
	sentAny   bool

	inFlight      []request // sent, and the reply has not begun
	commandOctets int64     // of the commands in flight
	messageOctets int64     // of the messages that they ask for
	pace          pacer     // limits messageOctets

	body *dotReader // the body being read, if any
}

// request is an entry and the command line for it.
type request struct {
	Entry
	line string
}

func (r *request) commandOctets() int64 { return int64(len(r.line) + len("\r\n")) }

// newPipeline returns a pipeline for the entries of want. The caller must call stop.
func (c *Client) newPipeline(verb string, want iter.Seq[Entry], format func(Entry) string) (p *pipeline, stop func()) {
	pull, stop := iter.Pull(want)
	return &pipeline{c: c, verb: verb, format: format, maxOctets: maxCommandOctets, pull: pull, pace: newPacer()}, stop
}

// next returns the entry whose reply is to be read next, and false if there is none
// left. It sends more commands when needed.
func (p *pipeline) next() (e Entry, ok bool, err error) {
	if p.needsRefill() {
		err = p.refill()
	}
	if len(p.inFlight) == 0 {
		return Entry{}, false, err
	}
	return p.shift(), true, err
}

// needsRefill reports whether to send more commands: when at most half of each limit
// is in use. For that of the octets of messages it is enough that the speed of the
// connection can be measured for the first time.
func (p *pipeline) needsRefill() bool {
	return !p.exhausted &&
		len(p.inFlight) <= p.c.window()/2 &&
		p.commandOctets <= p.maxOctets/2 &&
		(p.messageOctets <= p.pace.limit/2 || p.pace.canMeasureFirst())
}

// refill sends as many commands as the limits allow, and one in any case if none is in
// flight. After the last command it sends the trailer.
func (p *pipeline) refill() error {
	p.pace.measure()
	if len(p.inFlight) == 0 {
		if err := p.c.checkUnsolicited(p.verb); err != nil {
			return err
		}
	}
	for len(p.inFlight) < p.c.window() {
		r, ok := p.nextRequest()
		if !ok {
			p.exhausted = true
			if p.addSTAT && p.sentAny {
				p.trailer = "STAT"
			}
			if p.trailer != "" {
				p.c.w.queue(p.trailer)
			}
			break
		}
		if len(p.inFlight) > 0 && (p.commandOctets+r.commandOctets() > p.maxOctets || p.messageOctets+r.Size > p.pace.limit) {
			p.held = r
			break
		}
		p.inFlight = append(p.inFlight, *r)
		p.commandOctets += r.commandOctets()
		p.messageOctets += r.Size
		p.sentAny = true
		p.c.lastStat = nil // it was about an earlier command
		p.c.w.queue(r.line)
	}
	return p.c.w.flush()
}

func (p *pipeline) nextRequest() (*request, bool) {
	if r := p.held; r != nil {
		p.held = nil
		return r, true
	}
	e, ok := p.pull()
	if !ok {
		return nil, false
	}
	return &request{e, p.format(e)}, true
}

// shift removes the first request in flight and returns its entry.
func (p *pipeline) shift() Entry {
	r := p.inFlight[0]
	p.inFlight = p.inFlight[1:]
	p.commandOctets -= r.commandOctets()
	p.messageOctets -= r.Size
	p.pace.octets += r.Size
	return r.Entry
}

// readStatus reads the status line of a reply to RETR or TOP, and sets body. If the
// server refused the command, the error is a *ReplyError.
func (p *pipeline) readStatus() error {
	_, err := p.c.readReply(p.verb)
	p.pace.start()
	if err != nil {
		return err
	}
	p.body = newDotReader(&p.c.w)
	return nil
}

// skipBody reads the rest of the body, if there is one.
func (p *pipeline) skipBody() error {
	if p.body == nil {
		return nil
	}
	for {
		if _, err := p.body.next(); err == io.EOF {
			p.body = nil
			return nil
		} else if err != nil {
			return err
		}
	}
}

// drain reads all replies that have not been read, and sends no more commands.
func (p *pipeline) drain() error {
	for {
		if err := p.skipBody(); err != nil {
			return err
		}
		if len(p.inFlight) == 0 {
			return p.readTrailer()
		}
		p.shift()
		if err := p.readStatus(); errors.Is(err, ErrBroken) {
			return err
		}
	}
}

// readTrailer reads the reply to the trailer, if one was sent, as that to STAT.
func (p *pipeline) readTrailer() error {
	if p.trailer == "" {
		return nil
	}
	text, err := p.c.readReply(p.trailer)
	if errors.Is(err, ErrBroken) {
		return err
	}
	p.c.lastStat = &statReply{bytes.Clone(text), err}
	return nil
}

// The octets of messages to ask for ahead of the one being read. Little would leave a
// fast connection idle; much would take long to drain from a slow one, if the rest is
// no longer wanted.
const (
	initialAhead = 8 << 20
	minAhead     = 1 << 20
	maxAhead     = 16 << 20
	// aheadTime is how long the octets ahead are to take.
	aheadTime = time.Second
	// minSample is how many octets make a first measurement. As TCP starts slowly,
	// that may only raise the limit.
	minSample = 256 << 10
)

// pacer limits the octets of messages to ask for ahead, by the speed of the
// connection.
type pacer struct {
	limit    int64
	measured bool
	octets   int64     // of messages whose replies have begun since the last measurement
	since    time.Time // the last measurement, or the first reply; zero before
}

func newPacer() pacer { return pacer{limit: initialAhead} }

// start must be called when a reply has begun.
func (p *pacer) start() {
	if p.since.IsZero() {
		p.since = time.Now()
	}
}

func (p *pacer) canMeasureFirst() bool { return !p.measured && p.octets >= minSample }

// measure sets the limit by the speed since the last measurement.
func (p *pacer) measure() {
	if p.since.IsZero() {
		return
	}
	now := time.Now()
	elapsed := max(now.Sub(p.since), time.Millisecond)
	limit := min(max(int64(float64(p.octets)*float64(aheadTime)/float64(elapsed)), minAhead), maxAhead)
	if p.measured || limit > p.limit {
		p.limit = limit
	}
	p.measured, p.octets, p.since = true, 0, now
}
