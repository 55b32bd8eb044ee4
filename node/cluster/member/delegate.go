package member

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/effiscale/effiscale/knowledge"
)

// delegate has memberlist's callbacks, called mostly with its own lock held: they must
// not call back into it.
type delegate struct{ m *Members }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.MergeDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
	_ memberlist.PingDelegate     = delegate{}
)

// NodeMeta is this node's metadata.
func (d delegate) NodeMeta(int) []byte {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return d.m.packed
}

// NotifyAlive refuses members with invalid metadata.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	if n.Name == string(d.m.o.ID) {
		return nil
	}
	cause, detail := d.judge(n)
	if cause == "" {
		return nil
	}
	at := n.Name
	if cause == CauseID {
		at = fmt.Sprintf("%.32q at %s", n.Name, addrOf(n))
	}
	d.m.refusals.note(cause, at, detail)
	return errors.New(string(cause))
}

func (d delegate) judge(n *memberlist.Node) (Cause, string) {
	if !validID(n.Name) {
		return CauseID, "its id is not 32 hexadecimal digits"
	}
	if _, err := Unpack(n.Meta); err != nil {
		return CauseMeta, err.Error()
	}
	a, ok := netip.AddrFromSlice(n.Addr)
	a = a.Unmap()
	if !ok || a.IsUnspecified() || n.Port == 0 || a.IsLoopback() && !d.m.addr.Addr().IsLoopback() {
		return CauseAddress, addrOf(n)
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	e := d.m.roster.entries[knowledge.NodeID(n.Name)]
	if (e == nil || !e.alive) && d.m.roster.alive >= maxAlive {
		return CauseCrowd, fmt.Sprintf("%d members are the most", maxAlive)
	}
	return "", ""
}

// NotifyMerge refuses to join nodes of which none is valid. Single ones are
// left out by NotifyAlive: they must not keep this node from all others.
func (d delegate) NotifyMerge(nodes []*memberlist.Node) error {
	var first Cause
	for _, n := range nodes {
		if n.State != memberlist.StateAlive {
			continue
		}
		if n.Name == string(d.m.o.ID) {
			return nil
		}
		cause, _ := d.judge(n)
		if cause == "" {
			return nil
		}
		if first == "" {
			first = cause
			d.m.refusals.note(cause, fmt.Sprintf("%.32q", n.Name), "no node there has valid metadata")
		}
	}
	if first != "" {
		return fmt.Errorf("no node there has valid metadata (%s)", first)
	}
	return nil
}

func (d delegate) NotifyJoin(n *memberlist.Node) { d.came(n, true) }

func (d delegate) NotifyUpdate(n *memberlist.Node) { d.came(n, false) }

func (d delegate) came(n *memberlist.Node, joined bool) {
	id := knowledge.NodeID(n.Name)
	if id == d.m.o.ID {
		return
	}
	meta, err := Unpack(n.Meta)
	if err != nil {
		return // NotifyAlive refused it
	}
	d.m.roster.came(id, addrOf(n), meta)
	if joined {
		d.m.o.Log.Info().Str("node", string(id)).Str("name", meta.Name).Str("addr", addrOf(n)).Msg("node joined")
	}
	wake(d.m.changed)
}

func (d delegate) NotifyLeave(n *memberlist.Node) {
	if n.Name == string(d.m.o.ID) {
		return
	}
	p := d.m.roster.went(knowledge.NodeID(n.Name))
	d.m.o.Log.Info().Str("node", n.Name).Str("name", p.Name).Str("addr", addrOf(n)).Str("state",
		p.Status).Msg("node left or failed")
	wake(d.m.changed)
}

// NotifyConflict reports an id at two addresses. If it is this node's own, a disk
// was cloned, or others do not know yet that it moved. Else the other node moved,
// and memberlist ignores it until the old address has failed.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	meta, err := Unpack(other.Meta)
	if err != nil || addrOf(other) == d.m.addr.String() {
		return
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if existing.Name == string(d.m.o.ID) {
		d.m.conflicts.note(duplicate{d.m.o.ID, addrOf(other), meta.Started, meta.Name}, meta)
	} else if e := d.m.roster.entries[knowledge.NodeID(existing.Name)]; e != nil && e.alive {
		e.moved = addrOf(other)
	}
}

func (d delegate) AckPayload() []byte { return nil }

func (d delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, _ []byte) {
	d.m.roster.answered(knowledge.NodeID(n.Name), rtt)
}

func (d delegate) NotifyMsg(b []byte) {
	d.m.leaves.receive(b)
	d.m.pings.receive(b)
}

func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.m.leaves.queue.GetBroadcasts(overhead, limit)
}

func (d delegate) LocalState(bool) []byte { return d.m.leaves.all() }

func (d delegate) MergeRemoteState(b []byte, _ bool) { d.m.leaves.receive(b) }

func addrOf(n *memberlist.Node) string {
	if a, ok := netip.AddrFromSlice(n.Addr); ok {
		return netip.AddrPortFrom(a.Unmap(), n.Port).String()
	}
	return net.JoinHostPort("?", "0")
}
