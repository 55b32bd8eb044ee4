package config

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Defaults is the configuration without a file, an environment or a label. It
// holds every default there is; config.example.toml is proved equal to it.
func Defaults() Config {
	return Config{
		Node: Node{DataDir: "/var/lib/effiscale", Mode: knowledge.ModeAuto, Zone: "default"},
		Docker: Docker{
			Host:     "",
			Actuator: knowledge.ActuatorKernel,
			Timeout:  10 * time.Second, // an update takes 20 ms, 190 ms at worst with 16 at once
		},
		API: API{
			Monitor:     "127.0.0.1:8001",
			Controller:  "127.0.0.1:8002",
			Execution:   "127.0.0.1:8003",
			Socket:      "/run/effiscale/effiscale.sock",
			SocketGroup: "effiscale",
		},
		Cluster: Cluster{
			Name:        "effiscale",
			Bind:        "127.0.0.1:7946", // Serf's port, registered with IANA
			Timing:      "fast",
			Attestation: "off",
			PacketSize:  1400, // an Ethernet frame's 1500, less a tunnel's headers
		},
		Monitor: Monitor{
			HotEvery:        100 * time.Millisecond, // one CFS period
			Every:           time.Second,
			IdleEvery:       5 * time.Second,
			SlowEvery:       10 * time.Second,
			ListEvery:       30 * time.Second,
			DeliberateEvery: 10 * time.Second,
			StaleAfter:      3,
			Budget:          0.01,
		},
		Policy:   defaultPolicy(),
		Classes:  defaultClasses(),
		Services: map[knowledge.ServiceKey]Patch{},
		Limits: Limits{
			HostCPUReserve:    0.05,
			HostMemoryReserve: 0.10,
			HostMemoryLeast:   512 * knowledge.MiB,
			CPUOvercommit:     1,
			ActionsPerMinute:  60,
			StepUp:            1.5,
			StepDown:          0.7,
		},
		Store:   Store{MaxSize: 64 * knowledge.MiB, FlushEvery: 15 * time.Second},
		Log:     Log{Level: "info", Format: "auto"},
		Origins: map[string]Origin{},
	}
}

// defaultPolicy is also the class "serving".
func defaultPolicy() knowledge.Policy {
	return knowledge.Policy{
		Class:   knowledge.ClassServing,
		CPUMode: knowledge.CPUQuota,
		// The kernel takes 0.01 core (1 ms in 100 ms), where a process hardly moves.
		CPU: knowledge.Range[knowledge.NanoCPU]{Min: knowledge.OneCPU / 20},
		// Docker takes 6 MiB, but some images need more to start (moby #41167).
		Memory:           knowledge.Range[knowledge.Bytes]{Min: 32 * knowledge.MiB},
		ThrottleTarget:   0.06, // Autothrottle, NSDI'24
		MemoryPercentile: 0.98, // Autopilot, EuroSys'20
		MemoryShrink:     true,
		ShrinksPerDay:    48,
		ObserveFirst:     time.Minute,
		ShrinkAfter:      10 * time.Minute,
		OOMProtect:       time.Hour,
		YieldFor:         10 * time.Minute,
		Weight:           50,
		CPUSource:        knowledge.SourceDefault, MemorySource: knowledge.SourceDefault,
	}
}

func defaultClasses() map[knowledge.Class]Patch {
	return map[knowledge.Class]Patch{
		knowledge.ClassServing: nil,
		knowledge.ClassLatency: {
			{Key: "throttle_target", Value: "2%"},
		},
		knowledge.ClassBatch: {
			{Key: "throttle_target", Value: "10%"},
		},
		knowledge.ClassDatabase: {
			{Key: "throttle_target", Value: "4%"},
			{Key: "memory_percentile", Value: "100%"}, // never below the highest peak
			// Shared buffers are mapped at the start and taken by the first reads.
			{Key: "shrink_after", Value: "6h"},
		},
		knowledge.ClassJVM: {
			{Key: "memory_percentile", Value: "100%"},
			{Key: "shrink_after", Value: "6h"}, // the heap gives back late
		},
		knowledge.ClassCache: {
			{Key: "memory_percentile", Value: "100%"},
			{Key: "shrink_after", Value: "24h"}, // the memory is the service
		},
	}
}
