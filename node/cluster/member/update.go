package member

import (
	"time"
)

// A broadcast costs every node its size times some transmissions: 12 below ten
// members, 36 from a hundred on, 300 bytes each. So a state, a list of voters or a key is sent at
// once, the ring within a second, and the rest (load, services) every
// five seconds for each member there is: the whole cluster then sends one update in
// five seconds.
const (
	updateEvery   = time.Second
	updateForEach = 5 * time.Second
)

// Update changes this node's metadata and lets the others know: at once where its
// state, voters or keys change, the ring's checksum within a second, the rest when it is
// due. It does not wait. Name, Started and Keys
// stay what they are, FeatureSettled stays once it is set; what is out of bounds is not taken over.
func (m *Members) Update(f func(*Meta)) {
	m.edit(f)
	wake(m.dirty)
}

func (m *Members) edit(f func(*Meta)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.meta
	f(&next)
	// Read with mu held: an edit that began before a key was changed and ends after
	// the one that announces it must not take that back.
	next.Name, next.Started, next.Keys = m.meta.Name, m.meta.Started, m.keyring.prints()
	if next.Features |= m.meta.Features & FeatureSettled; next.State == Participant {
		next.Features |= FeatureSettled
	}
	packed, err := next.Pack()
	if err != nil {
		m.o.Log.Warn().Err(err).Msg("cannot publish the metadata of this node")
		return
	}
	m.edits++
	m.meta, m.packed = next, m.pad(packed)
	m.version.Add(1)
}

// pad makes the metadata of different nodes, and of one node before and after an
// update, differ in length; Unpack skips what is added. memberlist's queue numbers
// messages from 1 again whenever it sends all it has, takes two of the same length,
// number and times sent for one, and loses the other (hashicorp/memberlist#263). So
// a node's denial that it is dead may never leave it: of 48 minutes at 30 % loss,
// seven had a living node declared dead by all, and with differing lengths none.
func (m *Members) pad(packed []byte) []byte {
	var sum byte
	for _, c := range []byte(m.o.ID) {
		sum = sum*31 + c
	}
	return append(packed, make([]byte, int(sum%padNodes)*padEdits+m.edits%padEdits)...)
}

// 30 lengths for nodes, 4 for edits: 119 bytes at most, 59 in the mean.
const padNodes, padEdits = 30, 4

// loop calls Changed and sends metadata that is not what was sent.
func (m *Members) loop(sent Meta) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	timer.Stop()
	var sentAt time.Time
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.changed:
			if m.o.Changed != nil {
				m.o.Changed()
			}
			continue
		case b := <-m.pings.queue:
			m.pings.answer(b)
			continue
		case <-m.dirty:
		case <-timer.C:
		}
		next := m.snapshot()
		if next == sent || m.left.Load() {
			continue
		}
		if wait := m.pace(sent, next) - time.Since(sentAt); wait > 0 {
			timer.Reset(wait)
			continue
		}
		sent, sentAt = next, time.Now()
		// It is queued at once. The acknowledgement is not waited for.
		_ = m.ml.UpdateNode(time.Nanosecond)
		wake(m.changed)
	}
}

// pace is how long after the last broadcast the next is due.
func (m *Members) pace(old, next Meta) time.Duration {
	switch {
	case old.State != next.State || old.Keys != next.Keys || old.Features != next.Features || old.Voters != next.Voters:
		return 0
	case old.Ring != next.Ring:
		return updateEvery
	}
	return updateForEach * time.Duration(m.count())
}

func (m *Members) snapshot() Meta {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.meta
}
