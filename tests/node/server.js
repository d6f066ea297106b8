// The orders service on @grpc/grpc-js: all four kinds, as simple as can be. Prints its port.
'use strict';
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync(path.join(process.argv[2], 'examples/orders/orders.proto'), {
  keepCase: true,
  includeDirs: [process.argv[2]],
});
const orders = grpc.loadPackageDefinition(definition).example.orders.v1.Orders;
const caller = (call) => String(call.metadata.get('x-authz-principal')[0] || 'nobody');

const server = new grpc.Server();
server.addService(orders.service, {
  GetOrder(call, callback) {
    if (call.request.id === 'missing') {
      const trailers = new grpc.Metadata();
      trailers.set('x-why', 'because');
      trailers.set('x-why-bin', Buffer.from([0, 255]));
      callback({ code: grpc.status.NOT_FOUND, details: 'no order', metadata: trailers });
      return;
    }
    const trailers = new grpc.Metadata();
    trailers.set('x-trailer', 'last');
    callback(null, { namespace: call.request.namespace, id: call.request.id, placed_by: caller(call) }, trailers);
  },
  ListOrders(call) {
    for (let number = 0; number < 50; number += 1) {
      call.write({ namespace: call.request.namespace, id: String(number) });
    }
    call.end();
  },
  ImportOrders(call, callback) {
    const items = [];
    call.on('data', (request) => items.push(request.item));
    call.on('end', () => callback(null, { imported: items.length }));
  },
  TrackOrders(call) {
    call.on('data', (request) => call.write({ namespace: request.namespace, id: request.id }));
    call.on('end', () => call.end());
  },
});
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  process.stdout.write(`${port}\n`);
});
