#!/bin/bash
# memberlist: a member that the others declared dead, and that is connected
# again, cannot tell this from an ordinary suspicion, unless it calls Join.
#
# Version: github.com/hashicorp/memberlist v0.7.0.
#
# Behaviour: member x loses its connection to a and b until both declare it dead
# (NotifyLeave at a and b); then it is connected again.
#  - The periodic push/pull gives x its own record in the state "dead". memberlist
#    handles such a record as a suspicion. x refutes it with a higher incarnation,
#    and a and b call NotifyJoin. At x, no event names x, NotifyMerge is not
#    called, Members lists x throughout, and the log has
#    "Refuting a suspect message (from: x)".
#  - This is the same as after packet loss that made a and b suspect x without
#    declaring it dead: the same calls, list and log line.
#  - A push/pull of Join differs in one call: MergeDelegate.NotifyMerge gets x's
#    own record with State "dead". Events, list and log line are as above.
# Not shown here: while the dead message is still being gossiped (and for at most
# GossipToTheDeadTime), it may reach x itself; only the log then differs, with
# "Refuting a dead message". The script waits until a and b send x nothing more.
#
# Consequence: a program whose members must know that they had been declared dead
# (for example, to give up what the others took over) has to exchange this itself,
# or to call Join again and read its own record in NotifyMerge.
#
# Observed (x waits longer before it declares others dead, so that its own view
# of a and b does not change; NotifyAlive also occurs without any failure):
#   declared dead, periodic push/pull:
#     NotifyLeave(x) at a and b: 2, NotifyJoin(x): 2
#     calls at x that name x: NotifyAlive
#     x lists: a b x
#     first refutation in x's log: Refuting a suspect message (from: x)
#   packet loss, periodic push/pull:
#     NotifyLeave(x) at a and b: 0, NotifyJoin(x): 0
#     calls at x that name x: NotifyAlive
#     x lists: a b x
#     first refutation in x's log: Refuting a suspect message (from: x)
#   declared dead, Join:
#     NotifyLeave(x) at a and b: 2, NotifyJoin(x): 2
#     calls at x that name x: NotifyAlive NotifyMerge(dead)
#     x lists: a b x
#     first refutation in x's log: Refuting a suspect message (from: x)
#
# Needs go, its module proxy, and UDP and TCP on 127.0.0.1. Exit: 0 as described,
# 1 the behaviour differs, 2 it cannot run here.
set -euo pipefail

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

cannot() {
  echo "cannot run: $*" >&2
  exit 2
}

command -v go >/dev/null || cannot "go is not installed"
cat >"$tmp/main.go" <<'GO'
package main

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	open = iota
	noPackets
	cut
)

// link is x's connection to the others.
type link struct {
	mu      sync.Mutex
	mode    int
	address string    // of x
	lastToX time.Time // when another member last tried to send x a packet
}

func (l *link) set(mode int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mode = mode
	l.lastToX = time.Now()
}

// quiet tells whether the others sent x no packet for a second.
func (l *link) quiet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.lastToX) > time.Second
}

var errCut = errors.New("disconnected")

// transport is memberlist's own over sockets, with the link's failures.
type transport struct {
	*memberlist.NetTransport
	link *link
	ofX  bool
}

func (t *transport) fails(address string, packet bool) bool {
	t.link.mu.Lock()
	defer t.link.mu.Unlock()
	if !t.ofX && address != t.link.address {
		return false
	}
	if !t.ofX && packet {
		t.link.lastToX = time.Now()
	}
	return t.link.mode == cut || t.link.mode == noPackets && packet
}

func (t *transport) WriteTo(b []byte, address string) (time.Time, error) {
	if t.fails(address, true) {
		return time.Now(), nil
	}
	return t.NetTransport.WriteTo(b, address)
}

func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

func (t *transport) DialTimeout(address string, d time.Duration) (net.Conn, error) {
	if t.fails(address, false) {
		return nil, errCut
	}
	return t.NetTransport.DialTimeout(address, d)
}

func (t *transport) DialAddressTimeout(a memberlist.Address, d time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, d)
}

// recorder is every delegate that gets a node: it keeps the calls that name x,
// and the log.
type recorder struct {
	mu    sync.Mutex
	calls []string
	log   bytes.Buffer
}

func (r *recorder) add(call string, n *memberlist.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.Name == "x" {
		r.calls = append(r.calls, call)
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(b)
}

func (r *recorder) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = nil
	r.log.Reset()
}

func (r *recorder) count(call string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.calls {
		if c == call {
			n++
		}
	}
	return n
}

// kinds are the different calls, in alphabetical order.
func (r *recorder) kinds() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := slices.Clone(r.calls)
	slices.Sort(k)
	return strings.Join(slices.Compact(k), " ")
}

// refutation is the first of the log.
func (r *recorder) refutation() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range strings.Lines(r.log.String()) {
		if _, text, ok := strings.Cut(line, "memberlist: Refuting "); ok {
			return "Refuting " + strings.TrimSpace(text)
		}
	}
	return ""
}

func (r *recorder) NotifyJoin(n *memberlist.Node)        { r.add("NotifyJoin", n) }
func (r *recorder) NotifyLeave(n *memberlist.Node)       { r.add("NotifyLeave", n) }
func (r *recorder) NotifyUpdate(n *memberlist.Node)      { r.add("NotifyUpdate", n) }
func (r *recorder) NotifyConflict(n, _ *memberlist.Node) { r.add("NotifyConflict", n) }
func (r *recorder) NotifyAlive(n *memberlist.Node) error { r.add("NotifyAlive", n); return nil }
func (r *recorder) NotifyMerge(ns []*memberlist.Node) error {
	states := map[memberlist.NodeStateType]string{
		memberlist.StateAlive: "alive", memberlist.StateSuspect: "suspect",
		memberlist.StateDead: "dead", memberlist.StateLeft: "left",
	}
	for _, n := range ns {
		r.add("NotifyMerge("+states[n.State]+")", n)
	}
	return nil
}

type member struct {
	*memberlist.Memberlist
	*recorder
}

func start(name string, l *link, suspicion int, pushPull time.Duration) member {
	r := &recorder{}
	logger := log.New(r, "", 0)
	sockets := &memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, Logger: logger}
	t, err := memberlist.NewNetTransport(sockets)
	for try := 0; err != nil && try < 5; try++ { // the free TCP port may be in use for UDP
		t, err = memberlist.NewNetTransport(sockets)
	}
	check(err)
	c := memberlist.DefaultLANConfig()
	c.Name, c.Logger = name, logger
	c.Transport = &transport{NetTransport: t, link: l, ofX: name == "x"}
	c.BindAddr, c.BindPort, c.AdvertisePort = "127.0.0.1", 0, 0
	c.ProbeInterval, c.ProbeTimeout = 200*time.Millisecond, 100*time.Millisecond
	c.GossipInterval = 50 * time.Millisecond
	c.PushPullInterval = pushPull
	c.SuspicionMult = suspicion
	c.DisableTcpPings = true
	c.Events, c.Alive, c.Merge, c.Conflict = r, r, r, r
	m, err := memberlist.Create(c)
	check(err)
	return member{m, r}
}

func check(err error) {
	if err != nil {
		fmt.Println("cannot run:", err)
		os.Exit(2)
	}
}

func until(what string, holds func() bool) {
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			fmt.Println("differs: not within 20 s:", what)
			os.Exit(1)
		}
	}
}

type outcome struct {
	leaves, joins           int // at a and b
	calls, list, refutation string
}

// run disconnects x until the others declare it dead, or only loses packets
// until x refuted a suspicion; then it connects x again.
func run(dead, join bool) outcome {
	l, suspicion, pushPull := &link{}, 5, 200*time.Millisecond
	if !dead {
		suspicion = 100
	}
	if join {
		pushPull = 0
	}
	a, b := start("a", l, suspicion, pushPull), start("b", l, suspicion, pushPull)
	x := start("x", l, 200, pushPull)
	all := []member{a, b, x}
	l.mu.Lock()
	l.address = x.LocalNode().Address()
	l.mu.Unlock()
	for _, m := range []member{b, x} {
		_, err := m.Join([]string{a.LocalNode().Address()})
		check(err)
	}
	until("three members everywhere", func() bool {
		return a.NumMembers() == 3 && b.NumMembers() == 3 && x.NumMembers() == 3
	})
	for _, m := range all {
		m.clear()
	}
	refuted := func() bool { return x.refutation() != "" }
	if dead {
		l.set(cut)
		until("a and b declare x dead", func() bool {
			return a.count("NotifyLeave") == 1 && b.count("NotifyLeave") == 1
		})
		until("a and b send x nothing more", l.quiet)
	} else {
		l.set(noPackets)
		until("x refutes", refuted)
	}
	l.set(open)
	if join {
		_, err := x.Join([]string{a.LocalNode().Address()})
		check(err)
	}
	until("x refutes", refuted)
	until("a and b list x", func() bool { return a.NumMembers() == 3 && b.NumMembers() == 3 })
	if !join {
		until("x gets its own record as alive", func() bool { return x.count("NotifyAlive") > 0 })
	}
	time.Sleep(time.Second) // for calls that would come late
	var names []string
	for _, n := range x.Members() {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	o := outcome{
		leaves: a.count("NotifyLeave") + b.count("NotifyLeave"),
		joins:  a.count("NotifyJoin") + b.count("NotifyJoin"),
		calls:  x.kinds(), list: strings.Join(names, " "), refutation: x.refutation(),
	}
	for _, m := range all {
		check(m.Shutdown())
	}
	return o
}

func main() {
	const refutation = "Refuting a suspect message (from: x)"
	differs := false
	for _, c := range []struct {
		name       string
		dead, join bool
		want       outcome
	}{
		{"declared dead, periodic push/pull", true, false, outcome{2, 2, "", "a b x", refutation}},
		{"packet loss, periodic push/pull", false, false, outcome{0, 0, "", "a b x", refutation}},
		{"declared dead, Join", true, true, outcome{2, 2, "NotifyMerge(dead)", "a b x", refutation}},
	} {
		o := run(c.dead, c.join)
		fmt.Printf("%s:\n  NotifyLeave(x) at a and b: %d, NotifyJoin(x): %d\n  calls at x that name x: %s\n"+
			"  x lists: %s\n  first refutation in x's log: %s\n", c.name, o.leaves, o.joins, o.calls, o.list, o.refutation)
		// NotifyAlive for oneself is part of every exchange of states.
		o.calls = strings.TrimSpace(strings.Replace(o.calls, "NotifyAlive", "", 1))
		if o != c.want {
			fmt.Printf("  differs: expected %+v\n", c.want)
			differs = true
		}
	}
	if differs {
		os.Exit(1)
	}
	fmt.Println("As described.")
}
GO

cd "$tmp"
export GOMODCACHE=$tmp/modules GOFLAGS="-mod=mod -modcacherw" GOWORK=off
{
  go mod init finding && timeout 60 go get github.com/hashicorp/memberlist@v0.7.0 &&
    timeout $((80 - SECONDS)) go build -o finding .
} >build.log 2>&1 || { cat build.log >&2; cannot "the program does not build"; }
status=0
timeout $((115 - SECONDS)) ./finding || status=$?
[ "$status" != 124 ] || { echo "differs: not finished in time"; exit 1; }
exit "$status"
