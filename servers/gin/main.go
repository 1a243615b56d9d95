// Gin in release mode. Its logger, which writes a line for each request, is left out, as for production.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	text      = "text/plain; charset=utf-8"
	grace     = 10 * time.Second
	readHead  = 10 * time.Second
	keepAlive = 75 * time.Second
)

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "60000"
	}
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.Use(gin.Recovery())
	router.GET("/", answer(http.StatusOK, text, "Hello from tare\n"))
	router.GET("/json", answer(http.StatusOK, "application/json", "{\"message\":\"Hello from tare\"}\n"))
	router.GET("/health", answer(http.StatusOK, text, "ok\n"))
	router.GET("/ready", answer(http.StatusOK, text, "ready\n"))
	router.NoRoute(answer(http.StatusNotFound, text, "not found\n"))

	server := &http.Server{
		Addr:              "0.0.0.0:" + port,
		Handler:           router,
		ReadHeaderTimeout: readHead,
		IdleTimeout:       keepAlive,
	}
	terminated, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	<-terminated.Done()
	within, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := server.Shutdown(within); err != nil {
		log.Fatal(err)
	}
}

func answer(status int, mediaType, body string) gin.HandlerFunc {
	bytes := []byte(body)
	return func(context *gin.Context) {
		context.Data(status, mediaType, bytes)
	}
}
