package member

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/effiscale/effiscale/knowledge"
)

// memberlist waits for the answer to a ping as long as its timing allows a probe, 100 ms
// with the fast one: over a longer way no answer would ever come. So a packet of our own is
// sent beside the ping, and its answer waited for. A node of an older version answers the
// ping only.

const (
	askMark, answerMark = '?', '!' // first bytes, see leaveMark
	// A question is a number, the id of the recipient, and the address for the answer.
	askHead = 1 + 8 + 32
	askMost = askHead + 64
	// askWithin is for round trips of a second, and a busy host.
	askWithin = 2 * time.Second
	// asksWaiting bounds the questions that wait to be answered.
	asksWaiting = 16
)

// pings checks whether nodes answer by UDP, and answers.
type pings struct {
	m     *Members
	queue chan []byte              // questions to answer
	asked map[uint64]chan struct{} // by number; closed when it is answered; guarded by Members.mu
}

var errSilent = errors.New("no answer by UDP") // memberlist's own error has ids only

// ask is nil when the node with the id answers at a.
func (p *pings) ask(id knowledge.NodeID, a netip.AddrPort) error {
	timer := time.NewTimer(askWithin)
	defer timer.Stop()
	number, answered := rand.Uint64(), make(chan struct{})
	p.m.mu.Lock()
	p.asked[number] = answered
	p.m.mu.Unlock()
	defer func() {
		p.m.mu.Lock()
		defer p.m.mu.Unlock()
		delete(p.asked, number)
	}()
	b := append(binary.BigEndian.AppendUint64([]byte{askMark}, number), id...)
	// Where the packet cannot be sent, the ping fails, too.
	_ = p.m.ml.SendToAddress(memberlist.Address{Addr: a.String(), Name: string(id)}, append(b, p.m.addr.String()...))
	if _, err := p.m.ml.Ping(string(id), net.UDPAddrFromAddrPort(a)); err == nil {
		return nil
	}
	select {
	case <-answered:
		return nil
	default:
	}
	select {
	case <-answered:
		return nil
	case <-timer.C:
	case <-p.m.ctx.Done():
	}
	return errSilent
}

// receive takes a question, or the answer to one. memberlist waits for it.
func (p *pings) receive(b []byte) {
	switch {
	case len(b) == 1+8 && b[0] == answerMark:
		p.m.mu.Lock()
		defer p.m.mu.Unlock()
		if number := binary.BigEndian.Uint64(b[1:]); p.asked[number] != nil {
			close(p.asked[number])
			delete(p.asked, number)
		}
	case len(b) > askHead && len(b) <= askMost && b[0] == askMark && string(b[1+8:askHead]) == string(p.m.o.ID):
		select {
		case p.queue <- bytes.Clone(b):
		default: // it is asked again
		}
	}
}

// answer sends the answer to the address in the question.
func (p *pings) answer(b []byte) {
	a, err := netip.ParseAddrPort(string(b[askHead:]))
	if err != nil {
		return
	}
	_ = p.m.ml.SendToAddress(memberlist.Address{Addr: a.String()}, append([]byte{answerMark}, b[1:1+8]...))
}
