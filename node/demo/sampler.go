package demo

import (
	"context"
	"time"

	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// sampler reads what a container uses and may use: from kernel files where they
// can be read, else from the Engine's statistics and the daemon's own view.
type sampler struct {
	engine Lifecycle
	daemon *api.Client // nil in the run with fixed limits
	host   *cgroup.Host
	files  *cgroup.Container
	ctr    knowledge.Container
	now    knowledge.Sample
}

// attach points the sampler at a container that has just started.
func (s *sampler) attach(ctx context.Context, id knowledge.ContainerID) error {
	ctr, err := s.engine.Inspect(ctx, id)
	if err != nil {
		return err
	}
	s.close()
	s.ctr, s.now = ctr, knowledge.Sample{}
	if s.host == nil {
		return nil
	}
	// Without files the Engine is asked instead.
	if files, err := s.host.Attach(ctr); err == nil {
		s.files = files
	}
	return nil
}

func (s *sampler) close() {
	if s.files != nil {
		s.files.Close()
		s.files = nil
	}
}

// pace is how often reading makes sense: statistics take a second on 20.10.
func (s *sampler) pace() time.Duration {
	if s.files != nil {
		return 100 * time.Millisecond
	}
	return time.Second
}

// read is the newest sample; Quota and MemoryLimit are what holds now.
func (s *sampler) read(ctx context.Context) (knowledge.Sample, error) {
	if s.files != nil {
		err := s.files.Read(&s.now, knowledge.FastTier|knowledge.HasLimits)
		return s.now, err
	}
	if err := s.engine.Stats(ctx, s.ctr.ID, &s.now); err != nil {
		return s.now, err
	}
	s.now.Quota, s.now.MemoryLimit = s.ctr.Limits.CPU, s.ctr.Limits.Memory
	if s.daemon == nil {
		return s.now, nil
	}
	if v, err := view(ctx, s.daemon, s.ctr.Name); err == nil {
		if v.CPULimit != nil {
			s.now.Quota = knowledge.FromCores(*v.CPULimit)
		}
		if v.MemoryLimit != nil {
			s.now.MemoryLimit = knowledge.Bytes(*v.MemoryLimit)
		}
	}
	return s.now, nil
}
