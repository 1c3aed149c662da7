package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// keeping stores the body of each upload of a disk, which the simulator by itself forgets: as NUMBER-NAME in
// `folder`, in the order in which uploads begin.
type keeping struct {
	handler http.Handler
	folder  string
	count   atomic.Int64
}

func (k *keeping) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	if !strings.HasPrefix(request.URL.Path, "/nfc/") {
		k.handler.ServeHTTP(answer, request)
		return
	}
	name := fmt.Sprintf("%03d-%s", k.count.Add(1), path.Base(request.URL.Path))
	file, err := os.Create(filepath.Join(k.folder, name))
	if err != nil {
		http.Error(answer, err.Error(), http.StatusInsufficientStorage)
		return
	}
	defer file.Close()
	request.Body = struct {
		io.Reader
		io.Closer
	}{io.TeeReader(request.Body, file), request.Body}
	k.handler.ServeHTTP(answer, request)
}
