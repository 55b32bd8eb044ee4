// Package ops holds the operations of a daemon, one a file: what this host answers, and how
// the answers of several hosts are merged. Set.table binds each to its row in node/api and to
// the method by which other hosts ask for this host's part.
package ops
