package node

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/view"
)

// readyAnyway is how long the first full pass may hold readiness back.
const readyAnyway = 5 * time.Second

// awaitEngine takes over the Engine's description of the host once it answers, when it did
// not at the start. Meanwhile the node becomes ready without it: measuring and the services
// work.
func (n *Node) awaitEngine(ctx context.Context) {
	grace := time.AfterFunc(readyAnyway, func() {
		n.ready("measuring and the services work, the first full pass waits for the Docker Engine")
	})
	defer grace.Stop()
	if n.machine.host().EngineVersion != "" {
		<-ctx.Done()
		return
	}
	wait := time.Second
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		h, err := n.engine.Host(ctx)
		if err == nil {
			n.machine.described.Store(&h)
			_ = n.loop.Do(ctx, func() { n.loop.SetHost(h) })
			// Owners refuse reports of more cores than the host has in gossip.
			n.cluster.Members().Update(func(m *member.Meta) {
				m.Cores, m.Memory = knowledge.NanoCPU(h.CPUs)*knowledge.OneCPU, h.Memory
			})
			n.log.Info().Str("engine", h.EngineVersion).Msg("the Docker Engine answers")
			<-ctx.Done()
			return
		}
		wait = min(wait*2, 30*time.Second)
	}
}

// watchAccess applies the policies again when the Engine begins or ends to refuse updates:
// meanwhile containers are observed only.
func (n *Node) watchAccess(ctx context.Context) {
	refused := n.engine.UpdateRefused() != ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		if now := n.engine.UpdateRefused() != ""; now != refused {
			refused = now
			_ = n.loop.Do(ctx, func() { n.loop.SetHost(n.machine.host()) })
		}
	}
}

// ready notifies systemd and logs why, once.
func (n *Node) ready(why string) {
	if n.readied.Swap(true) {
		return
	}
	n.log.Info().Dur("after_ms", time.Since(n.started)).Msg("ready: " + why)
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
}

// watchdog notifies systemd, at a third of the interval that it requires, that the loop makes
// passes, with a status line. A loop that hangs sends nothing.
func (n *Node) watchdog(ctx context.Context) {
	every := 10 * time.Second
	interval, err := daemon.SdWatchdogEnabled(false)
	if err == nil && interval > 0 {
		every = interval / 3
	}
	last := int64(-1)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		ticks := n.ticks.Load()
		if ticks == last {
			continue
		}
		last = ticks
		state := daemon.SdNotifyWatchdog
		if status := n.line(ctx); status != "" {
			state += "\nSTATUS=" + status
		}
		_, _ = daemon.SdNotify(false, state)
	}
}

// accountEvery is how often the savings are added up.
const accountEvery = 15 * time.Second

// pruneEvery is how often the knowledge file drops old records.
const pruneEvery = 5 * time.Minute

// account adds up how much less containers reserve than by their original limits, for the
// metrics, and keeps the knowledge file inside its bounds.
func (n *Node) account(ctx context.Context) {
	pruned := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(accountEvery):
		}
		if now := time.Now(); now.Sub(pruned) >= pruneEvery {
			pruned = now
			if err := n.store.Prune(now); err != nil {
				n.log.Debug().Err(err).Msg("cannot prune the knowledge file")
			}
		}
		units, sum, err := n.loop.Containers(ctx)
		if err != nil {
			continue
		}
		cores, bytes := view.Saved(units)
		n.metrics.Saved(cores, bytes, accountEvery)
		n.metrics.LoopSuccess("tick", sum.LastTick)
	}
}

// line is the node in one line, for `systemctl status`.
func (n *Node) line(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	units, sum, err := n.loop.Containers(ctx)
	if err != nil {
		return ""
	}
	managed := 0
	for i := range units {
		if units[i].Policy.Acts() {
			managed++
		}
	}
	return fmt.Sprintf("%d containers, %d managed, %s of %s cores granted", len(units), managed, sum.Granted, sum.Pool)
}

// catchHangups keeps SIGHUP for reloadOnHangup, until the node has stopped.
func (n *Node) catchHangups() {
	n.hangups = make(chan os.Signal, 1)
	signal.Notify(n.hangups, syscall.SIGHUP)
	n.push("signals", func() error { signal.Stop(n.hangups); return nil })
}

// reloadOnHangup reads the configuration again on SIGHUP.
func (n *Node) reloadOnHangup(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.hangups:
			if err := n.Reload(ctx); err != nil {
				n.log.Error().Err(err).Msg("cannot reload the configuration")
			}
		}
	}
}
