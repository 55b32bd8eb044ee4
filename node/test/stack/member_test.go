package stack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/effiscale/effiscale/docker/observer"
	"github.com/effiscale/effiscale/node/api"
)

// member is a running workload and what was measured of it.
type member struct {
	workload
	id       string
	kernel   observer.Kernel
	was      observer.Container
	at       time.Time
	used     time.Duration
	cores    series
	quota    series
	held     series // anonymous and shared memory, MiB
	use      series // with page cache, MiB
	limit    series // MiB
	kills    int64
	restarts int
	actions  int
	failed   atomic.Int64
	sent     atomic.Int64
}

// series is the mean and the highest of values.
type series struct {
	sum, most float64
	n         int
}

func (s *series) put(v float64) { s.sum, s.most, s.n = s.sum+v, max(s.most, v), s.n+1 }

func (s *series) add(o series) { s.sum, s.most, s.n = s.sum+o.sum, max(s.most, o.most), s.n+o.n }

func (s *series) mean() float64 { return s.sum / float64(max(s.n, 1)) }

func (m *member) inspect(s *stack) observer.Container {
	s.t.Helper()
	c, err := s.engine.Inspect(m.id)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (m *member) meet(s *stack) {
	s.t.Helper()
	m.was = m.inspect(s)
	k, err := observer.KernelOf(m.was.State.Pid)
	if err != nil {
		s.t.Fatalf("%s: %v", m.name, err)
	}
	m.kernel = k
}

func (m *member) sample() {
	now, used := time.Now(), m.kernel.CPUTime()
	if !m.at.IsZero() && used >= m.used {
		m.cores.put((used - m.used).Seconds() / now.Sub(m.at).Seconds())
	}
	m.at, m.used = now, used
	m.quota.put(m.kernel.Quota())
	m.held.put(float64(m.kernel.MemoryHeld() >> 20))
	m.use.put(float64(m.kernel.MemoryUse() >> 20))
	m.limit.put(float64(m.kernel.Memory() >> 20))
	m.kills = max(m.kills, m.kernel.OOMKills())
}

// end reads what the Engine and the daemon recorded.
func (m *member) end(s *stack) {
	s.t.Helper()
	c := m.inspect(s)
	m.restarts = c.RestartCount - m.was.RestartCount
	if !c.State.Running {
		s.t.Errorf("%s does not run", m.name)
	}
	h, err := api.OpRecords.Call(s.t.Context(), s.client, api.RecordsRequest{Name: s.name + "-" + m.name, Limit: 1000})
	if err != nil {
		s.t.Error(err)
	}
	m.actions = len(h.Changes)
}

func (m *member) add(o *member) {
	m.cores.add(o.cores)
	m.quota.add(o.quota)
	m.held.add(o.held)
	m.use.add(o.use)
	m.limit.add(o.limit)
	m.kills += o.kills
	m.restarts += o.restarts
	m.actions += o.actions
}

func (m *member) String() string {
	return fmt.Sprintf("%s\t%.3f / %.3f\t%.3f / %.3f\t%.0f / %.0f\t%.0f / %.0f\t%.0f / %.0f\t%d\t%d\t%d\t%d of %d",
		m.name, m.cores.mean(), m.cores.most, m.quota.mean(), m.quota.most, m.held.mean(), m.held.most,
		m.use.mean(), m.use.most, m.limit.mean(), m.limit.most, m.kills, m.restarts, m.actions,
		m.failed.Load(), m.sent.Load())
}

// press sends requests in waves, in an open loop with at most 32 in flight.
func (m *member) press(ctx context.Context, url string, after time.Duration) {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	slots := make(chan struct{}, 32)
	began := time.Now()
	for ctx.Err() == nil {
		rate := m.rate
		if (time.Since(began)+after)%(busy+calm) > busy {
			rate = max(rate/20, 1)
		}
		time.Sleep(time.Second / time.Duration(rate))
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		go func() {
			defer func() { <-slots }()
			m.sent.Add(1)
			resp, err := client.Get(fmt.Sprint(url, m.sent.Load()%5000))
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			if err != nil && ctx.Err() == nil && time.Since(began) > 30*time.Second { // after its start
				m.failed.Add(1)
			}
		}()
	}
}
