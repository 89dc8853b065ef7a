// A gentle end: streams are ended, answers under way are finished, connections that wait for nothing are cut.
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Streams } from './streams.ts'

/**
 * The server by itself would wait for connections on which nothing was ever asked, and browsers open such in advance;
 * and for kept ones after their last answer.
 */
export function closeGently(app: FastifyInstance, streams: Streams): void {
  let closing = false
  /** Requests under way on each connection. */
  const underWay = new Map<Socket, number>()
  app.server.on('connection', (socket: Socket) => {
    if (closing) {
      socket.destroy()
      return
    }
    underWay.set(socket, 0)
    socket.once('close', () => underWay.delete(socket))
  })
  app.server.on('request', ({ socket }, response) => {
    underWay.set(socket, (underWay.get(socket) ?? 0) + 1)
    response.once('close', () => {
      if (underWay.has(socket)) underWay.set(socket, (underWay.get(socket) ?? 1) - 1)
    })
  })
  app.addHook('preClose', (done) => {
    closing = true
    streams.closeAll()
    for (const [socket, requests] of underWay) if (requests === 0) socket.destroy()
    done()
  })
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (closing) void reply.header('connection', 'close')
    done(null, payload)
  })
}
