package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	// firstTry is the first pause after no node answered; it doubles up to RejoinEvery.
	firstTry = 500 * time.Millisecond
	// Missing members that one round tries: those lost last, and any.
	lastGone, anyGone = 4, 4
	joinAtOnce        = 8
	maxAddrs          = 256 // that one call of Join asks
	// MaxIntroduced bounds the seeds that come from Introduce. One round asks some of
	// them, so that many that never answer do not hold up the others.
	MaxIntroduced, introducedAtOnce = 64, 8
	resolveWithin                   = 5 * time.Second
)

// joiner tries to join members that are missing.
type joiner struct {
	m       *Members
	again   chan struct{} // one has a new address
	dials   chan struct{} // a place for each dial of Join
	sought  time.Time     // the last Seek; guarded by Members.mu, as seeking
	seeking bool
}

// Run joins the others until ctx ends: the seeds, and former members that are missing.
// memberlist itself never re-merges the sides of a partition.
func (m *Members) Run(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(m.ctx, stop)()
	pause := firstTry
	for ctx.Err() == nil && !m.left.Load() {
		wait := m.o.RejoinEvery + rand.N(2*m.o.RejoinEvery)
		if tried, err := m.joiner.rejoin(ctx); err != nil && m.count() == 1 {
			m.refusals.logOnce(zerolog.WarnLevel, "join", fmt.Sprintf("cannot join any of %d nodes, retrying: %v", tried, err))
			wait = pause/2 + rand.N(pause)
			pause = min(2*pause, m.o.RejoinEvery)
		} else {
			pause = firstTry
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-m.joiner.again:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// rejoin tries the missing members once, and returns how many those were.
func (j *joiner) rejoin(ctx context.Context) (int, error) {
	seeds := j.seeds()
	targets, err := resolve(ctx, seeds)
	j.m.mu.Lock()
	var gone []*entry
	present := map[string]bool{}
	for _, e := range j.m.roster.entries {
		if e.alive {
			present[e.addr] = true
		} else {
			gone = append(gone, e)
		}
	}
	slices.SortFunc(gone, func(a, b *entry) int { return cmp.Or(b.gone.Compare(a.gone), cmp.Compare(a.id, b.id)) })
	if len(gone) > lastGone {
		rest := gone[lastGone:]
		rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
		gone = gone[:min(len(gone), lastGone+anyGone)]
	}
	for _, e := range gone {
		targets = append(targets, e.addr)
	}
	j.m.mu.Unlock()
	targets = slices.DeleteFunc(targets, func(a string) bool { return present[a] || a == j.m.addr.String() })
	slices.Sort(targets)
	targets = slices.Compact(targets)
	if len(targets) == 0 {
		return len(seeds), err
	}
	_, err = j.join(ctx, targets, make(chan struct{}, joinAtOnce))
	return len(targets), err
}

// Introduce replaces the seeds beside those of Options.Join: they are tried now, and
// then again for ever. Beyond MaxIntroduced they are left out.
func (m *Members) Introduce(addrs []string) {
	m.mu.Lock()
	m.o.Introduced = slices.Clone(addrs[:min(len(addrs), MaxIntroduced)])
	m.mu.Unlock()
	wake(m.joiner.again)
}

// seeds are those to try in this round.
func (j *joiner) seeds() []string {
	j.m.mu.Lock()
	some := slices.Clone(j.m.o.Introduced)
	j.m.mu.Unlock()
	rand.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	return slices.Concat(j.m.o.Join, some[:min(len(some), introducedAtOnce)])
}

// ErrBusy is a Join that had no turn before its time was over.
var ErrBusy = fmt.Errorf("overloaded: %d addresses are being joined, half a minute each; retry later", joinAtOnce)

// Join joins the cluster at the addresses now: host:port, or hosts with DefaultPort. All
// callers together have a few turns, for every user of the host may name addresses that
// never answer. It returns how many answered; the error is why none did.
func (m *Members) Join(ctx context.Context, addrs ...string) (int, error) {
	targets, err := resolve(ctx, addrs)
	targets = slices.DeleteFunc(targets, func(a string) bool { return a == m.addr.String() })
	if len(targets) == 0 && err == nil && len(addrs) == 1 {
		return 0, errors.New("this node's own address")
	}
	if len(targets) == 0 {
		return 0, cmp.Or(err, errors.New("no other node's address to join"))
	}
	return m.joiner.join(ctx, targets, m.joiner.dials)
}

// resolve makes ip:port of names; the error names those that it cannot.
func resolve(ctx context.Context, addrs []string) ([]string, error) {
	var found []string
	var errs []error
	for _, addr := range addrs {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			host, port = strings.Trim(addr, "[]"), strconv.Itoa(DefaultPort)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			errs = append(errs, fmt.Errorf("%q has no port", addr))
			continue
		}
		ips, err := lookup(ctx, host)
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot resolve %q: %w", addr, err))
			continue
		}
		for _, ip := range ips {
			found = append(found, netip.AddrPortFrom(ip.Unmap(), uint16(n)).String())
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)
	return found[:min(len(found), maxAddrs)], errors.Join(errs...)
}

func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// join tries as many at a time as there are slots. What still waits when ctx ends, ends by
// itself, and has its slot until then.
func (j *joiner) join(ctx context.Context, addrs []string, slots chan struct{}) (int, error) {
	switch {
	case j.m.isClosed():
		return 0, errClosed
	case j.m.left.Load():
		return 0, errLeft
	}
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		joined int
		errs   []error
	)
	for _, addr := range addrs {
		wg.Go(func() {
			err := j.joinOne(ctx, addr, slots)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				joined++
			} else {
				errs = append(errs, fmt.Errorf("%s: %w", addr, err))
			}
		})
	}
	wg.Wait()
	if joined > 0 {
		return joined, nil
	}
	return 0, errors.Join(errs...)
}

// seekEvery is the least time between two searches for callers that gossip has lost.
const seekEvery = 2 * time.Second

// Seek joins now a member that gossip has lost and that is alive, for it calls: Run would
// find it in half a minute. One is tried at a time.
func (m *Members) Seek(id knowledge.NodeID) {
	now := m.o.Now()
	m.mu.Lock()
	e := m.roster.entries[id]
	j := m.joiner
	soon := !j.sought.IsZero() && now.Sub(j.sought) < seekEvery
	if e == nil || e.alive || e.left() || m.left.Load() || j.seeking || soon {
		m.mu.Unlock()
		return
	}
	m.joiner.seeking, m.joiner.sought = true, now
	addr := e.addr
	m.mu.Unlock()
	m.spawn(func() {
		_ = m.joiner.joinOne(m.ctx, addr, make(chan struct{}, 1))
		m.mu.Lock()
		defer m.mu.Unlock()
		m.joiner.seeking = false
	})
}

func (j *joiner) joinOne(ctx context.Context, addr string, slots chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return ErrBusy
	}
	done := make(chan error, 1)
	if !j.m.spawn(func() {
		defer func() { <-slots }()
		_, err := j.m.ml.Join([]string{addr})
		done <- err
	}) {
		<-slots
		return errClosed
	}
	select {
	case err := <-done:
		if err != nil && strings.Contains(err.Error(), otherKey) {
			j.m.refusals.note(CauseKey, hostOf(addr), "")
		}
		return readable(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// otherKey is memberlist's error when no key fits.
const otherKey = "no installed keys could decrypt"

// readable translates memberlist's errors.
func readable(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, e := range []struct{ part, text string }{
		{otherKey, "it has another cluster key"},
		{"remote error: remote state is encrypted", "it has no cluster key"},
		{"remote state is encrypted", "it has a cluster key and this node has none"},
		{"remote state is not encrypted", "it has no cluster key"},
		{"connection refused", "connection refused"},
		{"connection reset", "connection closed: the cluster's name or key may differ"},
		{"EOF", "connection closed: the cluster's name or key may differ"},
		{"timeout", "no answer"},
	} {
		if strings.Contains(text, e.part) {
			return errors.New(e.text)
		}
	}
	if i := strings.LastIndex(text, "failed to join "); i >= 0 {
		text = text[i:]
	}
	return errors.New(strings.TrimSpace(text))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
