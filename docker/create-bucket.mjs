// Creates the bucket that STORE_URL names, unless it is there; ends at once where STORE_URL is a folder.
import { CreateBucketCommand, HeadBucketCommand, S3Client } from '@aws-sdk/client-s3'

const triesMax = 30
const waitMs = 1_000

const bucket = /^s3:\/\/([^/]+)/.exec(process.env.STORE_URL ?? '')?.[1]
if (bucket === undefined) {
  console.log(`STORE_URL ${process.env.STORE_URL ?? '(not set)'} names no bucket: nothing to create`)
} else {
  await ensureBucket(bucket)
}

async function ensureBucket(bucket) {
  const endpoint = process.env.AWS_ENDPOINT_URL_S3 ?? process.env.AWS_ENDPOINT_URL
  const client = new S3Client({
    region: process.env.AWS_REGION ?? 'us-east-1',
    maxAttempts: 1,
    forcePathStyle: Boolean(endpoint),
  })
  for (let tries = 1; ; tries++) {
    try {
      const made = await createIfMissing(client, bucket)
      console.log(`bucket ${bucket} ${made ? 'created' : 'is there'}`)
      return
    } catch (error) {
      // An answer will be the same next time; no answer may mean that the server is still starting.
      const status = error.$metadata?.httpStatusCode
      if (status !== undefined || tries === triesMax) {
        const answer =
          status === undefined ? `${error.name} ${error.message}` : `the answer was ${status} ${error.name}`
        console.error(`cannot create bucket ${bucket} at ${endpoint ?? 'AWS'}: ${answer}`)
        process.exit(1)
      }
      await new Promise((resolve) => setTimeout(resolve, waitMs))
    }
  }
}

async function createIfMissing(client, bucket) {
  try {
    await client.send(new HeadBucketCommand({ Bucket: bucket }))
    return false
  } catch (error) {
    if (error.$metadata?.httpStatusCode !== 404) throw error
  }
  try {
    await client.send(new CreateBucketCommand({ Bucket: bucket }))
    return true
  } catch (error) {
    // Another one was faster.
    if (error.name === 'BucketAlreadyOwnedByYou') return false
    throw error
  }
}
