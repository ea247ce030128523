default_model_urls = {"koniq10k": "https://example.com/musiq_koniq_ckpt-e95806b9.pth"}
