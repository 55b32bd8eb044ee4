module github.com/effiscale/effiscale/docker/cgroup/compare

go 1.26.8

replace github.com/effiscale/effiscale => ../../..

require (
	github.com/effiscale/effiscale v0.0.0-00010101000000-000000000000
	github.com/google/cadvisor/lib v0.60.6
	github.com/opencontainers/cgroups v0.1.0
	golang.org/x/sys v0.50.0
)

require (
	github.com/coreos/go-systemd/v22 v22.7.0 // indirect
	github.com/cyphar/filepath-securejoin v0.6.1 // indirect
	github.com/go-logr/logr v1.4.4 // indirect
	github.com/godbus/dbus/v5 v5.1.0 // indirect
	github.com/moby/sys/mountinfo v0.7.2 // indirect
	github.com/moby/sys/userns v0.1.0 // indirect
	github.com/sirupsen/logrus v1.9.3 // indirect
	k8s.io/klog/v2 v2.130.1 // indirect
	k8s.io/utils v0.0.0-20250502105355-0f33e8f1c979 // indirect
)
