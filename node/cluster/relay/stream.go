package relay

import (
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// errStreamed: the answer is on its way already.
var errStreamed = errors.New("streamed")

// Stream asks a node for an answer of any size up to 64 MiB, which is read from what
// comes back as it arrives; io.EOF means that all of it did. The stream ends with ctx,
// after a minute, and with Close, which must be called. A caller that does not read for
// 10 s is disconnected. An error before the first byte is as of Call.
func (r *Relay) Stream(ctx context.Context, to knowledge.NodeID, method string, body []byte) (io.ReadCloser, error) {
	p, err := r.peerFor(to, method, body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.limits.stream)
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		cancel()
		return nil, callError(to, ctx.Err())
	}
	s := &stream{end: func() {
		cancel()
		p.pending.Add(-1)
		<-p.slots
	}}
	p.pending.Add(1) // the link is in use
	first, stop := context.WithCancel(ctx)
	late := time.AfterFunc(callTime, stop)
	_, err = r.ask(first, p, question{http.MethodPost, method, body, func(resp *http.Response) ([]byte, error) {
		if resp.StatusCode >= 300 {
			return r.readAnswer(resp)
		}
		s.body = resp.Body
		return nil, nil
	}})
	if !late.Stop() && err == nil { // the answer and the end of waiting met
		err = callError(to, context.DeadlineExceeded)
	}
	if err != nil {
		stop()
		_ = s.Close()
		return nil, err
	}
	context.AfterFunc(ctx, stop)
	s.from = &bounded{from: flate.NewReader(s.body), left: r.limits.streamed}
	return s, nil
}

// stream is the caller's end.
type stream struct {
	body io.ReadCloser // nil: there was no answer
	from io.Reader
	once sync.Once
	end  func()
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.from.Read(b)
	if errors.Is(err, io.EOF) {
		// All was unpacked; the end of the body is whether it was all.
		if _, last := io.CopyN(io.Discard, s.body, 1); !errors.Is(last, io.EOF) {
			return n, errors.Join(errors.New("incomplete stream"), last)
		}
	}
	return n, err
}

func (s *stream) Close() (err error) {
	s.once.Do(func() {
		s.end() // first: it unblocks a Read
		if s.body != nil {
			err = s.body.Close()
		}
	})
	return err
}

// stream serves one.
func (r *Relay) stream(ctx context.Context, w http.ResponseWriter, p *peer, h Handler, body []byte) error {
	defer p.streaming.Add(-1)
	defer r.streaming.Add(-1)
	if p.streaming.Add(1) > r.limits.peerStream {
		r.streaming.Add(1)
		r.crowded.Add(1)
		return &Error{http.StatusTooManyRequests, fmt.Sprintf("overloaded: %d streams to one node at a time, retry later",
			r.limits.peerStream)}
	}
	if r.streaming.Add(1) > r.limits.streams {
		r.crowded.Add(1)
		return &Error{http.StatusServiceUnavailable, errBusy.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, r.limits.stream)
	defer cancel()
	out := &pieces{w: w, control: http.NewResponseController(w), unread: r.limits.unread}
	out.end, _ = ctx.Deadline()
	packed, err := flate.NewWriter(out, flate.BestSpeed)
	if err != nil {
		return err
	}
	to := &counted{to: packed, left: r.limits.streamed, ctx: ctx}
	_, err = r.handle(ctx, Handler{Serve: func(ctx context.Context, from knowledge.NodeID, body []byte) ([]byte, error) {
		return nil, h.Stream(ctx, from, body, to)
	}}, p.id, body)
	if err == nil {
		err = errors.Join(to.err, packed.Close())
	}
	switch {
	case err == nil:
		return errStreamed
	case !out.begun:
		return err
	}
	panic(http.ErrAbortHandler) // the caller sees that this was not all
}

// counted bounds what a handler writes, and keeps its first error: a handler that
// does not look at it must not end as if all were well.
type counted struct {
	to   io.Writer
	left int64
	ctx  context.Context
	err  error
}

func (c *counted) Write(b []byte) (int, error) {
	if c.left -= int64(len(b)); c.left < 0 && c.err == nil {
		c.err = errBody
	}
	if c.err == nil {
		c.err = c.ctx.Err()
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.to.Write(b)
	c.err = err
	return n, err
}

// pieces sends what is packed; each piece has its own time to be taken.
type pieces struct {
	w       http.ResponseWriter
	control *http.ResponseController
	unread  time.Duration
	end     time.Time
	begun   bool
}

func (o *pieces) Write(b []byte) (int, error) {
	o.begun = true
	by := time.Now().Add(o.unread)
	if o.end.Before(by) {
		by = o.end
	}
	if !time.Now().Before(by) {
		return 0, os.ErrDeadlineExceeded
	}
	if err := o.control.SetWriteDeadline(by); err != nil {
		return 0, err
	}
	return o.w.Write(b)
}
