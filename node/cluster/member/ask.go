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
// where that is fast: over a longer way nobody would ever answer. So a packet of our own is
// sent beside the ping, and its answer waited for. A node of an older version knows the
// ping only.

const (
	askMark, answerMark = '?', '!' // first bytes, see byeMark
	// A question is a number, the id of who is asked, and where the answer is to go.
	askHead = 1 + 8 + 32
	askMost = askHead + 64
	// askWithin is for round trips of a second, and a busy host.
	askWithin = 2 * time.Second
	// asksWaiting bounds the questions that wait to be answered.
	asksWaiting = 16
)

var errSilent = errors.New("no answer by UDP") // memberlist's own words name its ids only

// ask is nil when the node with the id answers at a.
func (m *Members) ask(id knowledge.NodeID, a netip.AddrPort) error {
	timer := time.NewTimer(askWithin)
	defer timer.Stop()
	number, heard := rand.Uint64(), make(chan struct{})
	m.mu.Lock()
	m.asked[number] = heard
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.asked, number)
	}()
	b := append(binary.BigEndian.AppendUint64([]byte{askMark}, number), id...)
	// A failure of the one is one of the other, too.
	_ = m.ml.SendToAddress(memberlist.Address{Addr: a.String(), Name: string(id)}, append(b, m.addr.String()...))
	if _, err := m.ml.Ping(string(id), net.UDPAddrFromAddrPort(a)); err == nil {
		return nil
	}
	select {
	case <-heard:
		return nil
	default:
	}
	select {
	case <-heard:
		return nil
	case <-timer.C:
	case <-m.ctx.Done():
	}
	return errSilent
}

// hearAsk takes a question, or the answer to one. memberlist waits for it.
func (m *Members) hearAsk(b []byte) {
	switch {
	case len(b) == 1+8 && b[0] == answerMark:
		m.mu.Lock()
		defer m.mu.Unlock()
		if number := binary.BigEndian.Uint64(b[1:]); m.asked[number] != nil {
			close(m.asked[number])
			delete(m.asked, number)
		}
	case len(b) > askHead && len(b) <= askMost && b[0] == askMark && string(b[1+8:askHead]) == string(m.self):
		select {
		case m.asks <- bytes.Clone(b):
		default: // it is asked again
		}
	}
}

// answer answers a question, where it says.
func (m *Members) answer(b []byte) {
	a, err := netip.ParseAddrPort(string(b[askHead:]))
	if err != nil {
		return
	}
	_ = m.ml.SendToAddress(memberlist.Address{Addr: a.String()}, append([]byte{answerMark}, b[1:1+8]...))
}
